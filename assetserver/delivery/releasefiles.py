"""``ReleaseFiles``: what a site's releases serve, with the HTTP of ``AssetFiles``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .assetfiles import AssetFiles, AssetFolder
from .releasefolder import OpenIndex, ReleaseFolder


class ReleaseFiles(AssetFiles):
    """Serves what ``open_index`` gives now; blobs are files where ``path_of`` says.

    Keywords are those of ``AssetFiles``, ``directory`` and ``packages`` aside; ``html`` is on: a release is a site.
    """

    def __init__(self, open_index: OpenIndex, path_of: Callable[[str], str], **keywords: Any) -> None:
        self._open_index = open_index
        self._path_of = path_of
        super().__init__(html=True, **keywords)

    def _open_folder(self) -> AssetFolder:
        return ReleaseFolder(self._open_index, self._path_of, self._make_asset, self._resources.files)
