"""The methods of the Neptune loopback that take and give bytes: files, file sets, artifacts.

An artifact has no bytes: the client sends only paths, digests and sizes of the files it tracks.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import urllib.parse
import uuid
import zipfile
from typing import Any

from mnist_jax.compare.servers import neptune_runs, neptune_store, server

_NO_ERRORS: dict[str, Any] = {"errors": []}


def _keep(store: neptune_store.NeptuneStore, request: server.Request, content: bytes) -> Any:
    run = neptune_runs.run_of(store, request)
    path, query = request.query["attribute"], request.query
    try:
        if "subPath" in query:
            run.of_kind(path, "fileSet", {}).value[query["subPath"]] = content
        else:
            # The start of a multipart upload names the extension, its end does not.
            run.of_kind(path, "file", None).value = neptune_store.StoredFile(content, query.get("ext", ""))
    except neptune_store.OperationRefused as refused:
        run.rejected.append(neptune_store.Rejected(path, "upload", 0, refused.description))
        return {"errors": [{"errorDescription": refused.description}]}
    return _NO_ERRORS


def _start(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    upload = f"{uuid.uuid4()}.{request.query.get('ext', '')}"
    store.uploads[upload] = {}
    return {"errors": [], "uploadId": upload}


def _part(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    first, _, _ = request.headers["X-Range"].removeprefix("bytes=").partition("-")
    store.uploads[request.query["uploadId"]][int(first)] = request.body  # by its start, so a part may come twice
    return _NO_ERRORS


def _finish(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    upload = request.query["uploadId"]
    chunks = store.uploads.pop(upload)
    extension = upload.partition(".")[2]
    request = server.Request(**{**vars(request), "query": {**request.query, "ext": extension}})
    return _keep(store, request, b"".join(chunks[first] for first in sorted(chunks)))


def _tar(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    run = neptune_runs.run_of(store, request)
    if request.query["reset"] == "True":
        run.fields.pop(request.query["attribute"], None)
    files = run.of_kind(request.query["attribute"], "fileSet", {}).value
    with tarfile.open(fileobj=io.BytesIO(request.body), mode="r:gz") as archive:
        for member in archive:
            if content := archive.extractfile(member):
                files[member.name] = content.read()
    return _NO_ERRORS


def _bytes(content: bytes, name: str, content_type: str = "application/octet-stream") -> server.Response:
    return server.Response(200, content_type, content, {"Content-Disposition": f'attachment; filename="{name}"'})


def _download(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    file = neptune_runs.field_of(store, request, "file").value
    name = request.query["attribute"].rpartition("/")[2]
    return _bytes(file.content, f"{name}.{file.extension}" if file.extension else name)


def _image(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    points = neptune_runs.field_of(store, request, "imageSeries").value
    return _bytes(points[int(request.query["index"])].value.content, "image.png", "image/png")


def _prepare_zip(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    neptune_runs.field_of(store, request, "fileSet")
    return {"id": urllib.parse.urlencode(request.query), "downloadUrl": None}


def _prepared_zip(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    return {"id": request.query["id"], "downloadUrl": f"{request.url}/api/leaderboard/zip?{request.query['id']}"}


def _zip(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, file in neptune_runs.field_of(store, request, "fileSet").value.items():
            archive.writestr(path, file)
    return _bytes(content.getvalue(), "files.zip", "application/zip")


def _description(artifact: str, files: list[dict[str, Any]], received: bool) -> Any:
    size = sum(file["size"] or 0 for file in files)
    return {"artifactHash": artifact, "receivedMetadata": received, "size": size}


def _new_artifact(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    artifact = request.query["hash"]
    return _description(artifact, store.artifacts.get(artifact, []), artifact in store.artifacts)


def _artifact_files(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    artifact = request.query["hash"]
    store.artifacts[artifact] = json.loads(request.body)["files"]
    return _description(artifact, store.artifacts[artifact], True)


def _artifact_version(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    # Tracking more into an artifact makes another one, of the files of both; ours is named by paths and digests.
    files = {file["filePath"]: file for file in store.artifacts.get(request.query["hash"], [])}
    files |= {file["filePath"]: file for file in json.loads(request.body)["files"]}
    ordered = [files[path] for path in sorted(files)]
    names = [[file["filePath"], file["fileHash"]] for file in ordered]
    artifact = hashlib.sha256(json.dumps(names).encode()).hexdigest()
    store.artifacts[artifact] = ordered
    return _description(artifact, ordered, True)


def _list_artifact(store: neptune_store.NeptuneStore, request: server.Request) -> Any:
    if request.query["hash"] not in store.artifacts:
        raise neptune_runs.NotFound("ARTIFACT_NOT_FOUND")
    return {"files": store.artifacts[request.query["hash"]]}


METHODS: dict[str, neptune_runs.Method] = {
    "fileAtomUpload": lambda store, request: _keep(store, request, request.body),
    "fileAtomMultipartUploadStart": _start,
    "fileAtomMultipartUploadPart": _part,
    "fileAtomMultipartUploadFinish": _finish,
    "fileSetFileUpload": lambda store, request: _keep(store, request, request.body),
    "fileSetFileMultipartUploadStart": _start,
    "fileSetFileMultipartUploadPart": _part,
    "fileSetFileMultipartUploadFinish": _finish,
    "uploadFileSetAttributeTar": _tar,
    "downloadAttribute": _download,
    "getImageSeriesValue": _image,
    "prepareForDownloadFileSetAttributeZip": _prepare_zip,
    "getDownloadPrepareRequest": _prepared_zip,
    "zip": _zip,
    "createNewArtifact": _new_artifact,
    "uploadArtifactFilesMetadata": _artifact_files,
    "createArtifactVersion": _artifact_version,
    "listArtifactFiles": _list_artifact,
}
