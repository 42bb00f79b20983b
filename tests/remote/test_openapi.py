"""The description of the API of releases is kept: what schemathesis makes of it never fails the server."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from assetserver.remote.openapi import describe_releases

from .conftest import TOKEN

EXAMPLES = 25
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
OPERATIONS = [f"{verb.upper()} {path}" for path, item in describe_releases().items() for verb in item if verb != "parameters"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("label", OPERATIONS)
def test_server_never_fails_and_answers_as_described(server, label, mode):
    method, path = label.split(" ")
    document = {"openapi": "3.1.0", "info": {"title": "releases", "version": "1"}, "paths": describe_releases()}
    operation = schemathesis.openapi.from_dict(document)[path][method]

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(operation.as_strategy(generation_mode=mode))
    def run(case):
        case.call_and_validate(base_url=server.url, headers={"Authorization": f"Bearer {TOKEN}"}, checks=CHECKS)

    run()
