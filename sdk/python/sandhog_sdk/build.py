"""From a project to a component: put on the Python interpreter, started up to where a job comes in."""

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


class BuildError(Exception):
    """Why there is no component."""


def build(project: Path, out: Path | None = None) -> Path:
    """Builds the component of a project. Returns the file it is in."""
    name, module, folder = _manifest(project)
    component = (out or project / f"{name}.wasm").resolve()
    component.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sandhog-python-") as work:
        # The handlers first: whatever they import, the standard library too, is only there while the component is built.
        entry = f"import {module}\nfrom sandhog_sdk.guest import WitWorld\n"
        Path(work, "sandhog_entry.py").write_text(entry, encoding="utf-8")
        command = [_componentize(), "--wit-path", str(_contract()), "--world", "handler", "--quiet", "componentize"]
        command += ["sandhog_entry", "--output", str(component)]
        for path in (work, folder, _PACKAGE.parent):
            command += ["--python-path", str(path)]
        # Bytecode would be left in the project, and name this machine's paths.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        if subprocess.run(command, env=environment, check=False, stdout=sys.stderr).returncode != 0:
            raise BuildError(f"{project} could not be built; see above")
    return component


def _manifest(project: Path) -> tuple[str, str, Path]:
    """The project's name, the module of its handlers, and the folder that it is in."""
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
    module: str = document.get("tool", {}).get("sandhog", {}).get("module", name.replace("-", "_"))
    source = project / "src"
    folder = (source if source.is_dir() else project).resolve()
    if not any((folder / place).exists() for place in (f"{module}.py", f"{module}/__init__.py")):
        hint = "[tool.sandhog] module = \"…\" in pyproject.toml names another"
        raise BuildError(f"there is no module `{module}` with the handlers in {folder}; {hint}")
    return name, module, folder


def _contract() -> Path:
    """The contract: a published package brings it along, a checkout has it in `wit/`."""
    inside = _PACKAGE / "wit"
    return inside if inside.is_dir() else _PACKAGE.parents[2] / "wit"


def _componentize() -> str:
    program = Path(sys.executable).parent / "componentize-py"
    if not program.exists():
        raise BuildError("componentize-py is not installed beside this Python: pip install 'sandhog-sdk[build]'")
    return str(program)
