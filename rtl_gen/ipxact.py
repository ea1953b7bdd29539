"""The IP-XACT component beside the Verilog, and a script that packages the same for Vivado.

Both name the same ports: clock, reset, and a stream interface (AXI4-Stream: TDATA, TVALID, TREADY) for each stream of the core,
whose rules are those of AXI4-Stream but for one: around `restart` the memory's requests and writes may be taken back.

Sources: IEEE 1685-2014 (order of the elements), AMD UG1118 (ipx commands, names of the interfaces).
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from tritape.rtl_gen.fusesoc import VERSION

NAMESPACE = "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"
VENDOR, LIBRARY = "tritape", "core"
STREAM = {"payload": "TDATA", "valid": "TVALID", "ready": "TREADY"}
_BUSES = {"stream": "axis", "clock": "clock", "reset": "reset"}


def interfaces(ports: list[dict[str, Any]]) -> dict[str, tuple[str, str, dict[str, str]]]:
    """Name of an interface -> its kind (`stream`, `clock` or `reset`), mode, and logical to physical names."""
    way = {port["name"]: port["direction"] for port in ports}
    found: dict[str, tuple[str, str, dict[str, str]]] = {}
    for valid in way:
        stem = valid.removesuffix("__valid")
        if stem != valid and f"{stem}__ready" in way:
            mode = "slave" if way[valid] == "in" else "master"
            found[stem.replace("__", "_")] = (
                "stream",
                mode,
                {logical: f"{stem}__{part}" for part, logical in STREAM.items()},
            )
    return {**found, "clk": ("clock", "slave", {"CLK": "clk"}), "rst": ("reset", "slave", {"RST": "rst"})}


def _parameters(buses: dict[str, tuple[str, str, dict[str, str]]], kind: str) -> dict[str, str]:
    streams = ":".join(name for name, (of, _, _) in buses.items() if of == "stream")
    return {
        "stream": {},
        "clock": {"ASSOCIATED_BUSIF": streams, "ASSOCIATED_RESET": "rst"},
        "reset": {"POLARITY": "ACTIVE_HIGH"},
    }[kind]


def _vlnv(kind: str, abstraction: bool) -> dict[str, str]:
    name = _BUSES[kind] + ("_rtl" if abstraction else "")
    return {
        "vendor": "xilinx.com",
        "library": "interface" if kind == "stream" else "signal",
        "name": name,
        "version": "1.0",
    }


def _add(parent: ElementTree.Element, tag: str, text: str | None = None, **attributes: str) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, f"{{{NAMESPACE}}}{tag}", attributes)
    element.text = text
    return element


def component_xml(description: dict[str, Any]) -> str:
    """Text of `component.xml` for a core that `tritape.rtl_gen.verilog.describe` described."""
    ElementTree.register_namespace("ipxact", NAMESPACE)
    root = ElementTree.Element(f"{{{NAMESPACE}}}component")
    name, ports = description["module"], description["ports"]
    for tag, text in (("vendor", VENDOR), ("library", LIBRARY), ("name", name), ("version", VERSION)):
        _add(root, tag, text)
    _add_buses(_add(root, "busInterfaces"), interfaces(ports))
    _add_model(_add(root, "model"), name, ports)
    files = _add(_add(root, "fileSets"), "fileSet")
    _add(files, "name", "rtl")
    file = _add(files, "file")
    _add(file, "name", f"{name}.v")
    _add(file, "fileType", "verilogSource")
    _add(
        root,
        "description",
        f"accelerator of MatMul-free language models, configuration {description['configuration_hash']}",
    )
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_buses(parent: ElementTree.Element, buses: dict[str, tuple[str, str, dict[str, str]]]) -> None:
    for name, (kind, mode, wires) in buses.items():
        bus = _add(parent, "busInterface")
        _add(bus, "name", name)
        _add(bus, "busType", **_vlnv(kind, abstraction=False))
        abstraction = _add(_add(bus, "abstractionTypes"), "abstractionType")
        _add(abstraction, "abstractionRef", **_vlnv(kind, abstraction=True))
        maps = _add(abstraction, "portMaps")
        for logical, physical in wires.items():
            pair = _add(maps, "portMap")
            _add(_add(pair, "logicalPort"), "name", logical)
            _add(_add(pair, "physicalPort"), "name", physical)
        _add(bus, mode)
        if parameters := _parameters(buses, kind):
            values = _add(bus, "parameters")
            for key, value in parameters.items():
                parameter = _add(values, "parameter", parameterId=f"{name}_{key}")
                _add(parameter, "name", key)
                _add(parameter, "value", value)


def _add_model(model: ElementTree.Element, name: str, ports: list[dict[str, Any]]) -> None:
    view = _add(_add(model, "views"), "view")
    _add(view, "name", "rtl")
    _add(view, "envIdentifier", "verilog::")
    _add(view, "componentInstantiationRef", "verilog")
    instance = _add(_add(model, "instantiations"), "componentInstantiation")
    _add(instance, "name", "verilog")
    _add(instance, "language", "verilog")
    _add(instance, "moduleName", name)
    _add(_add(instance, "fileSetRef"), "localName", "rtl")
    listed = _add(model, "ports")
    for port in ports:
        entry = _add(listed, "port")
        _add(entry, "name", port["name"])
        _add(entry, "description", port["meaning"])
        wire = _add(entry, "wire")
        _add(wire, "direction", port["direction"])
        if port["bits"] > 1:
            vector = _add(_add(wire, "vectors"), "vector")
            _add(vector, "left", str(port["bits"] - 1))
            _add(vector, "right", "0")


def package_tcl(description: dict[str, Any]) -> str:
    """Text of `NAME_package.tcl`: Vivado makes its own component of the Verilog, with the same interfaces."""
    name, buses = description["module"], interfaces(description["ports"])
    lines = [
        f"# {name}.v to an IP of Vivado's catalogue in the folder {name}_ip: vivado -mode batch -source {name}_package.tcl",
        "set here [file dirname [file normalize [info script]]]",
        f"create_project -in_memory {name}_package",
        f"add_files -norecurse [file join $here {name}.v]",
        f"set_property top {name} [current_fileset]",
        f"ipx::package_project -root_dir [file join $here {name}_ip] -vendor {VENDOR} -library {LIBRARY} -taxonomy /UserIP "
        "-import_files -set_current true",
        "set core [ipx::current_core]",
        f"set_property name {name} $core",
        f"set_property version {VERSION} $core",
        "foreach bus [ipx::get_bus_interfaces -of_objects $core] {",
        "  ipx::remove_bus_interface [get_property name $bus] $core",
        "}",
    ]
    for bus, (kind, mode, wires) in buses.items():
        types = [":".join(_vlnv(kind, abstraction).values()) for abstraction in (False, True)]
        lines += [
            f"set bus [ipx::add_bus_interface {bus} $core]",
            f"set_property bus_type_vlnv {types[0]} $bus",
            f"set_property abstraction_type_vlnv {types[1]} $bus",
            f"set_property interface_mode {mode} $bus",
            *(
                f"set_property physical_name {wire} [ipx::add_port_map {logical} $bus]"
                for logical, wire in wires.items()
            ),
            *(
                f"set_property value {value} [ipx::add_bus_parameter {key} $bus]"
                for key, value in _parameters(buses, kind).items()
            ),
        ]
    lines += ["ipx::create_xgui_files $core", "ipx::update_checksums $core", "ipx::save_core $core"]
    return "\n".join(lines) + "\n"
