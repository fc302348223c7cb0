"""ONNX Runtime Web, which runs the models of a page in the browser."""

import base64
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from run_scripts.common.errors import FileError, UserError


# The package and its checksum, as npm shows it.
PACKAGE = "onnxruntime-web@1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
# The script, the code that loads WebAssembly, and WebAssembly itself.
FILES = {
    "script": "dist/ort.wasm.min.js",
    "mjs": "dist/ort-wasm-simd-threaded.mjs",
    "wasm": "dist/ort-wasm-simd-threaded.wasm",
}


def read_runtime(archive: str | None) -> dict[str, bytes]:
    """
    Reads the files of the runtime from the archive that `npm pack` writes, or has npm fetch it.

    Args:
        archive (`str`, *optional*):
            The archive. Without it, this calls `npm pack`, which asks the network only the first time.

    Returns:
        `dict[str, bytes]`: The files, by the names in `FILES`.

    Raises:
        `ValueError`: If there is no npm, if it fails, or if the archive is another one than the project was tested
            with.
        `OSError`: If the archive cannot be read.
    """
    if archive is not None:
        data = _read(Path(archive).expanduser())
    else:
        with tempfile.TemporaryDirectory() as folder:
            data = _read(_pack(Path(folder)))
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != SHA512:
        raise UserError(f"{archive or 'What npm fetched'} is not {PACKAGE}, or is damaged: run `npm pack {PACKAGE}`.")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {name: tar.extractfile(f"package/{file}").read() for name, file in FILES.items()}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"--runtime {path} cannot be read: {error.strerror or error}.") from error


def _pack(folder: Path) -> Path:
    advice = f"On a computer with npm and a network run `npm pack {PACKAGE}`, and pass its file by --runtime."
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"The page needs {PACKAGE}, which npm fetches, and npm is not installed. {advice}")
    command = [npm, "pack", PACKAGE, "--prefer-offline", "--silent", "--pack-destination", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True)
    archives = list(folder.glob("*.tgz"))
    if result.returncode != 0 or not archives:
        reason = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[0]
        raise UserError(f"npm could not fetch {PACKAGE}: {reason}. {advice}")
    return archives[0]
