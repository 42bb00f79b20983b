"""The description is served, is one, and is kept: what schemathesis makes of it never fails the server."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from assetserver.remote.openapi import describe_releases
from assetserver.uploads.openapi import describe_api

EXAMPLES = 25
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
OPERATIONS = [
    f"{verb.upper()} {path}" for path, item in describe_api()["paths"].items() for verb in item if verb != "parameters"
]


def test_description_is_served_to_anybody(client):
    reply = client.send("GET", "/-/api/openapi.json", token="")

    assert (reply.status, reply.fields["content-type"]) == (200, "application/json")
    described = describe_api()
    described["paths"] |= describe_releases()
    assert reply.json == described


def find_references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in node.values():
            yield from find_references(child)
    elif isinstance(node, list):
        for child in node:
            yield from find_references(child)


def test_every_reference_leads_somewhere():
    described = describe_api()

    for reference in find_references(described):
        found = described
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
        assert found


schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")


def run_cases(client, label, mode, path_parameters=None):
    """Send what schemathesis makes of an operation; each answer must be one that is described, and no failure."""
    method, path = label.split(" ")
    operation = schemathesis.openapi.from_dict(describe_api(client.url))[path][method]
    fields = {"Authorization": f"Bearer {client.token}"}

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(operation.as_strategy(generation_mode=mode, path_parameters=path_parameters))
    def run(case):
        case.call_and_validate(base_url=client.url, headers=fields, checks=CHECKS)

    run()


MODES = pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)


@pytest.mark.timeout(600)
@MODES
@pytest.mark.parametrize("label", OPERATIONS)
def test_server_never_fails_and_answers_as_described(client, label, mode):
    run_cases(client, label, mode)


@pytest.mark.timeout(600)
@MODES
@pytest.mark.parametrize("label", [label for label in OPERATIONS if "{id}" in label and not label.endswith("/events")])
def test_nor_does_it_for_an_upload_that_is_there(client, label, mode):
    """News of it would go on until it is complete."""
    begun = client.send("POST", "/uploads", None, {"Tus-Resumable": "1.0.0", "Upload-Defer-Length": "1"})

    run_cases(client, label, mode, {"id": begun.fields["location"].rpartition("/")[2]})
