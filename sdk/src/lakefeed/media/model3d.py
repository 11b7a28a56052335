"""The media type for 3D models and point clouds, whose contents are not inspected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lakefeed.media.handles import Handle
from lakefeed.media.media_type import MediaType

_CONTENT_TYPES = {
    ".3mf": "model/3mf",
    ".dae": "model/vnd.collada+xml",
    ".fbx": "application/x-fbx",
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".obj": "model/obj",
    ".pcd": "application/x-pcd",
    ".ply": "application/x-ply",
    ".stl": "model/stl",
    ".usd": "model/vnd.usd",
    ".usda": "model/vnd.usda",
    ".usdc": "model/vnd.usdc",
    ".usdz": "model/vnd.usdz+zip",
}
# Other formats begin like plain text (OBJ, STL) or like any archive (USDZ, 3MF) and are recognised by their names.
_MAGIC = (
    (b"glTF", "model/gltf-binary"),
    (b"ply\nformat ", "application/x-ply"),
    (b"ply\r\nformat ", "application/x-ply"),
    (b"PXR-USDC", "model/vnd.usdc"),
    (b"#usda ", "model/vnd.usda"),
    (b"Kaydara FBX Binary", "application/x-fbx"),
    (b"# .PCD v", "application/x-pcd"),
)


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Model3D(Handle):
    """A mesh, scene or point cloud. Pass ``path()`` or ``open()`` to the library that reads it.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("point.obj").write_text("v 0 0 0")
        >>> Model3D("point.obj").path().name
        'point.obj'
    """

    media: ClassVar[str] = "3d"


def sniff(head: bytes) -> str | None:
    """Returns the content type of the model that begins with ``head``; None if it is not a known model format.

    Example:
        >>> sniff(b"glTF....")
        'model/gltf-binary'
    """
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)


MODEL_3D = MediaType(name="3d", handle=Model3D, default_mode="path", content_types=_CONTENT_TYPES, sniff=sniff)
