"""The README's section on pictures, executed: three lines make a page of a folder of photographs."""

import re

from ..uploads.test_readme_uploads import Shell, read_steps
from .galleries import draw, write


def test_three_lines_make_a_page_of_a_folder_of_photographs(open_gallery, require):
    for program in ("curl", "jq"):
        require(program)
    gallery = open_gallery()
    photos = gallery.folder / "photos"
    photos.mkdir()
    for number in range(3):
        (photos / f"photo-{number}.jpg").write_bytes(write(draw(660, 440, number)))
    shell = Shell(gallery.folder, gallery.url)
    shell.take(f"export TOKEN={gallery.token}", [])
    steps = list(read_steps("Pictures"))
    assert len(steps) == 4
    for command, output in steps:
        shell.take(command, output)
    page = (gallery.folder / "photos.html").read_text()
    assert page.count("<picture>") == page.count("</picture>") == 3
    urls = set(re.findall(r"/media/[^ \"]+", page))
    assert len(urls) == 3 * 3 * 3
    assert all(gallery.ask("GET", url)[0] == 200 for url in urls)
