"""The rules of ARCHITECTURE.md as tests: imports point one way, pure modules are pure, modules stay readable.

Breaking one turns a test red here; a new module of the fabric has to be given its place in `FABRIC_LAYERS`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES = 400

# Lowest first: a module imports its own layer and those below.
FABRIC_LAYERS = [
    {"errors"},
    {
        "vnl_quoting",
        "handshake",
        "framing",
        "ethernet",
        "neighbour",
        "states",
        "dedup",
        "counters",
        "handoff_report",
        "pcapng",
    },
    {"vnl", "handoff_states"},  # so far: pure
    {"capture", "events", "mmsg", "queue", "pressure", "peer_socket", "processes"},
    {"plugs"},
    {"endpoint", "control_dir", "redial"},
    {"listener", "link", "host"},
    {"link_registry", "link_events", "inspection", "failover", "statistics"},
    {"prober"},
    {"monitor"},
    {"multilink"},
    {"handoff"},
    {"handoffs"},
    {"fabric"},
    {"activity"},
]
PURE = set().union(*FABRIC_LAYERS[:3])
PURE_MAY_IMPORT = {
    *(
        "__future__",
        "bisect",
        "collections",
        "dataclasses",
        "enum",
        "functools",
        "hashlib",
        "ipaddress",
        "itertools",
        "math",
    ),
    *("random", "re", "shlex", "statistics", "struct", "typing", "zlib"),
    "socket",  # for its constants, see `_socket_calls`
}

Modules = dict[str, ast.Module]


def load_modules(root: Path) -> Modules:
    """Every module of app/ by its dotted name; a package goes by its own."""
    modules: Modules = {}
    for path in sorted((root / "app").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text(), str(path))
    return modules


def imports_of(tree: ast.Module, modules: Modules) -> Iterator[str]:
    """The modules that `tree` imports anywhere in it, be it inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield "(a relative import)"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in modules else str(node.module)


def layer_of(module: str) -> int | None:
    """The height of a module of app/, None for one of the fabric that has no place yet."""
    _app, area, *rest = [*module.split("."), "", ""]
    if area == "fabric":
        if not rest[0]:
            return 0
        return next((height for height, names in enumerate(FABRIC_LAYERS) if rest[0] in names), None)
    if area == "api":
        return 200
    if area == "service":
        return 300
    if area in {"cli", "__main__"} or area.startswith("cli_"):
        return 400
    return 100 if area else 0  # settings, store and their like; the package itself


def layer_violations(modules: Modules) -> list[str]:
    found = []
    for name, tree in modules.items():
        height = layer_of(name)
        if height is None:
            found.append(f"{name} has no place in FABRIC_LAYERS")
            continue
        pure = name.removeprefix("app.fabric.") in PURE
        for imported in imports_of(tree, modules):
            if imported.partition(".")[0] == "app":
                target = layer_of(imported)
                if target is not None and target > height:
                    found.append(f"{name} imports {imported}, which is above it")
            elif imported.startswith("("):
                found.append(f"{name} has {imported}")
            elif pure and imported.partition(".")[0] not in PURE_MAY_IMPORT:
                found.append(f"{name} is pure, but imports {imported}")
        if pure:
            found += [f"{name} is pure, but uses {used}" for used in _impure_uses(tree)]
    return found


def _impure_uses(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "socket":
            if not node.attr.isupper():
                yield f"socket.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module == "socket":
            yield "names of socket"
        elif isinstance(node, ast.AsyncFunctionDef | ast.Await):
            yield "async"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"open", "print"}:
            yield node.func.id


def import_cycle(modules: Modules) -> list[str]:
    # A package's own __init__ is left out: it may gather its modules, which then load it first.
    packages = {name.rpartition(".")[0] for name in modules}
    graph = {
        name: {target for target in imports_of(tree, modules) if target in modules and target not in packages}
        for name, tree in modules.items()
        if name not in packages
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [str(name) for name in error.args[1]]
    return []


def names_with(word: str, modules: Modules) -> list[str]:
    return [
        f"{module}: {name}"
        for module, tree in modules.items()
        for name in _defined(tree, module)
        if word in name.lower()
    ]


def _defined(tree: ast.Module, module: str) -> Iterator[str]:
    """Every name that the module gives to something; names that others gave, like AF_PACKET, are theirs."""
    yield module
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)):
                yield name


@pytest.fixture(scope="module")
def modules() -> Modules:
    found = load_modules(ROOT)
    assert "app.fabric.vnl" in found
    return found


def test_imports_point_one_way(modules: Modules) -> None:
    violations = layer_violations(modules)
    assert not violations, "\n".join(violations)


def test_imports_make_no_cycle(modules: Modules) -> None:
    assert import_cycle(modules) == []


def test_nothing_is_called_a_packet(modules: Modules) -> None:
    assert names_with("packet", modules) == []


def test_modules_stay_readable() -> None:
    for path in (ROOT / "app").rglob("*.py"):
        text = path.read_text()
        assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"
        assert len(text.splitlines()) <= MAX_LINES, (
            f"{path} has more than {MAX_LINES} lines: give a part its own module"
        )


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("app.fabric.link", "from app.api.links import show", "app.fabric.link imports app.api.links"),
        ("app.fabric.link", "from app import settings", "imports app.settings"),
        ("app.fabric.link", "def late():\n    import app.store", "imports app.store"),
        ("app.fabric.link", "from app.fabric.multilink import Multilink", "imports app.fabric.multilink"),
        ("app.fabric.plugs.vde", "from app.fabric.listener import Listener", "imports app.fabric.listener"),
        ("app.fabric.mmsg", "import app.fabric.plugs.base", "imports app.fabric.plugs.base"),
        ("app.fabric.multilink", "from app.fabric import handoff", "imports app.fabric.handoff"),
        ("app.fabric.vnl", "from app.fabric.mmsg import Batch", "imports app.fabric.mmsg"),
        ("app.api.links", "from app.service import run", "imports app.service"),
        ("app.service", "from app.cli import main", "imports app.cli"),
        ("app.settings", "import app.api.app", "imports app.api.app"),
        ("app.api.links", "from . import problems", "relative import"),
        ("app.fabric.states", "import trio", "is pure, but imports trio"),
        ("app.fabric.counters", "from time import monotonic", "is pure, but imports time"),
        ("app.fabric.handshake", "import socket\nsocket.socket(socket.AF_UNIX)", "uses socket.socket"),
        ("app.fabric.handshake", "from socket import create_connection", "uses names of socket"),
        ("app.fabric.framing", "open('/etc/passwd')", "uses open"),
        ("app.fabric.ethernet", "async def peek(): ...", "uses async"),
        ("app.fabric.misc", "", "has no place"),
    ],
)
def test_each_rule_bites(module: str, source: str, complaint: str) -> None:
    named = ["app.api.links", "app.settings", "app.store", "app.fabric.multilink", "app.fabric.handoff"]
    modules = {name: ast.parse("") for name in named} | {module: ast.parse(source)}
    (found,) = layer_violations(modules)
    assert complaint in found


def test_what_the_rules_allow() -> None:
    modules = {
        "app.service": ast.parse("import app.api.app\nfrom app.fabric.fabric import open_fabric\nimport app.settings"),
        "app.fabric.handshake": ast.parse("import socket\nfamily = socket.AF_UNIX\nfrom app.fabric.errors import X"),
        "app.fabric.fabric": ast.parse("import trio, os\nfrom app.fabric import multilink"),
    }
    assert layer_violations(modules) == []


def test_a_cycle_is_found() -> None:
    modules = {
        "app.fabric": ast.parse(""),
        "app.fabric.link": ast.parse("def late():\n    from app.fabric import host"),
        "app.fabric.host": ast.parse("import app.fabric.link"),
    }
    assert set(import_cycle(modules)) == {"app.fabric.link", "app.fabric.host"}


@pytest.mark.parametrize(
    "source",
    [
        "def send_packet(): ...",
        "class PacketQueue: ...",
        "packets = []",
        "def f(packet): ...",
        "def f(self):\n    self.last_packet = 1",
        "import x as packet",
    ],
)
def test_the_word_is_found(source: str) -> None:
    assert len(names_with("packet", {"app.x": ast.parse(source)})) == 1


def test_names_of_others_are_theirs() -> None:
    assert names_with("packet", {"app.x": ast.parse("import socket\nkind = socket.SOCK_SEQPACKET")}) == []
