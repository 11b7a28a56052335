"""Multipart uploads that failed. S3 keeps their parts, and bills for them, until they are aborted."""

from __future__ import annotations

import logging
from typing import Any

from lakefeed.storage.disk.disk_errors import cleanup_errors


def discard_upload(file: Any) -> None:
    """Discards the data of an open fsspec file and the parts that it has uploaded. Raises nothing."""
    from fsspec.spec import AbstractBufferedFile

    path = str(getattr(file, "path", file))
    with cleanup_errors(path):
        file.discard()
    if isinstance(file, AbstractBufferedFile):
        file.closed = True  # else it would try to complete the upload when it goes
    with cleanup_errors(path, logging.DEBUG):
        file.close()


def abort_multipart(filesystem: Any, bucket: str, key: str) -> None:
    """Aborts all unfinished uploads of an object. The key must be one that nobody else writes."""
    marks: dict[str, str] = {}
    while True:
        answer = filesystem.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key, **marks)
        for upload in answer.get("Uploads", ()):
            if upload["Key"] == key:
                filesystem.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload["UploadId"])
        if not answer.get("IsTruncated"):
            return
        marks = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}
