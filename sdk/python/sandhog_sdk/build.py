"""From a project to a component: put on the Python interpreter, started up to where a job comes in."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent


class BuildError(Exception):
    """Why there is no component."""


def build(project: Path, out: Path | None = None) -> Path:
    """Builds the component of a project. Returns the file it is in."""
    name, module, folder, http = _manifest(project)
    component = (out or project / f"{name}.wasm").resolve()
    component.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sandhog-python-") as work:
        # The handlers first: whatever they import, the standard library too, is only there while the component is built.
        entry = f"import {module}\n{_HTTP_ENTRY if http else _ENTRY}"
        Path(work, "sandhog_entry.py").write_text(entry, encoding="utf-8")
        contract, world = (_contract_with_http(Path(work, "wit")), "python-http") if http else (_contract(), "handler")
        command = [_componentize(), "--wit-path", str(contract), "--world", world, "--quiet", "componentize"]
        command += ["sandhog_entry", "--output", str(component)]
        for path in (work, folder, _PACKAGE.parent):
            command += ["--python-path", str(path)]
        # Bytecode would be left in the project, and name this machine's paths.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        if subprocess.run(command, env=environment, check=False, stdout=sys.stderr).returncode != 0:
            raise BuildError(f"{project} could not be built; see above")
    kinds = _kinds(module, folder)
    if kinds is not None:
        with component.open("ab") as file:
            file.write(kinds_section(kinds))
    return component


# What is given to the handlers while their kinds are asked for, in seconds.
_KINDS_TIMEOUT = 60

_PRINT_KINDS = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
from sandhog_sdk._handler import kinds
print("\\n" + json.dumps(kinds()))
"""


def _kinds(module: str, folder: Path) -> list[str] | None:
    """The kinds that the project has handlers of: its module is imported once more, natively. None if that fails."""
    path = os.pathsep.join(map(str, (folder, _PACKAGE.parent)))
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": path}
    command = [sys.executable, "-c", _PRINT_KINDS, module]
    try:
        found = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=_KINDS_TIMEOUT
        )
        kinds: list[str] = json.loads(found.stdout.rstrip().rpartition("\n")[2])
    except (subprocess.SubprocessError, ValueError) as error:
        why = getattr(error, "stderr", None) or error
        note = "the component doesn't declare its kinds, as the handlers can't be imported by this Python"
        print(f"sandhog-python: {note}: {why}", file=sys.stderr)
        return None
    return kinds


def kinds_section(kinds: list[str]) -> bytes:
    """A custom section in which a component declares the kinds that it has handlers of."""
    name = b"sandhog:kinds"
    content = _leb128(len(name)) + name + "".join(f"{kind}\n" for kind in kinds).encode()
    return b"\0" + _leb128(len(content)) + content


def _leb128(number: int) -> bytes:
    """A number as WebAssembly has it: seven bits a byte, the lowest first."""
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


_ENTRY = "from sandhog_sdk.guest import WitWorld\n"

# The bindings give the contract's types another name where others have the same one.
_HTTP_ENTRY = """
import sys
import wit_world.imports
from wit_world.imports import sandhog_job_types
wit_world.imports.types = sys.modules["wit_world.imports.types"] = sandhog_job_types
from sandhog_sdk.guest_http import WitWorld
"""


def _manifest(project: Path) -> tuple[str, str, Path, bool]:
    """The project's name, the module of its handlers, the folder that it is in, and whether it sends requests."""
    file = project / "pyproject.toml"
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        hint = "name the project's folder, or start one: sandhog plugin new NAME --lang python"
        raise BuildError(f"can't read {file}: {error.strerror}: {hint}") from None
    try:
        document = tomllib.loads(text)
        name: str = document["project"]["name"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise BuildError(f"{file} is no project: {error}") from None
    options: dict[str, Any] = document.get("tool", {}).get("sandhog", {})
    module: str = options.get("module", name.replace("-", "_"))
    source = project / "src"
    folder = (source if source.is_dir() else project).resolve()
    if not any((folder / place).exists() for place in (f"{module}.py", f"{module}/__init__.py")):
        hint = "[tool.sandhog] module = \"…\" in pyproject.toml names another"
        raise BuildError(f"there is no module `{module}` with the handlers in {folder}; {hint}")
    return name, module, folder, options.get("http") is True


def _contract() -> Path:
    """The contract: a published package brings it along, a checkout has it in `wit/`."""
    inside = _PACKAGE / "wit"
    return inside if inside.is_dir() else _PACKAGE.parents[2] / "wit"


def _contract_with_http(folder: Path) -> Path:
    """The contract together with wasi:http, put together in a folder."""
    shutil.copytree(_PACKAGE / "wit_http", folder)
    shutil.copy(_contract() / "job.wit", folder / "deps")
    return folder


def _componentize() -> str:
    program = Path(sys.executable).parent / "componentize-py"
    if not program.exists():
        raise BuildError("componentize-py is not installed beside this Python: pip install 'sandhog-sdk[build]'")
    return str(program)
