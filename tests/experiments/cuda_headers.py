"""Asks a C++ compiler what NVIDIA's headers declare, in the words in which `described` puts what ctypes was told.

A parameter is i32, u64 and so on; `p` an opaque pointer, `pu64` a pointer to u64; `s24` a structure of 24 bytes. An
enumeration counts as the 32-bit integer that it is passed as.
"""

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
WITH = {
    "cuda.h": ("cuda.h",),
    "cuda_runtime_api.h": ("cuda_runtime_api.h", "crt/host_defines.h"),  # which comes in another wheel
    "nvml.h": ("nvml.h",),
}
DESCRIBE = r"""
#include <cstddef>
#include <cstdio>
#include <string>
#include <type_traits>
template <class T, class = void> struct is_whole : std::false_type {};
template <class T> struct is_whole<T, std::void_t<decltype(sizeof(T))>> : std::true_type {};
template <class T> std::string described() {
    if constexpr (std::is_pointer_v<T>) {
        using To = std::remove_cv_t<std::remove_pointer_t<T>>;
        if constexpr (is_whole<To>::value) return "p" + described<To>(); else return "p";
    } else if constexpr (std::is_enum_v<T>) return "i" + std::to_string(8 * sizeof(T));
    else if constexpr (std::is_integral_v<T>)
        return (std::is_signed_v<T> ? "i" : "u") + std::to_string(8 * sizeof(T));
    else return "s" + std::to_string(sizeof(T));
}
template <class F> struct signature;
template <class R, class... A> struct signature<R (*)(A...)> {
    static void print(const char *name) {
        std::printf("%s", name);
        ((std::printf(" %s", described<A>().c_str())), ...);
        std::printf(" -> %s\n", described<R>().c_str());
    }
};
#define FUNCTION(name) signature<decltype(&name)>::print(#name);
#define NUMBER(name) std::printf("%s %llu\n", #name, (unsigned long long)(name));
#define SIZE(type) std::printf("%s %zu\n", #type, sizeof(type));
#define PLACE(type, field) std::printf("%s.%s %zu\n", #type, #field, offsetof(type, field));
"""


def find(header: str) -> Path | None:
    """The folder of a header: $CUDA_HOME, next to torch (NVIDIA's wheels), /usr/local/cuda*, in this order."""
    spec = importlib.util.find_spec("torch")
    wheels = [Path(place).parent / "nvidia" for place in (spec.submodule_search_locations or [])] if spec else []
    folders = [Path(os.environ["CUDA_HOME"]) / "include"] if "CUDA_HOME" in os.environ else []
    folders += [folder for wheel in wheels for folder in wheel.glob("*/include")]
    folders += [*Path("/usr/local").glob("cuda*/include"), Path("/usr/include")]
    return next((folder for folder in folders if all((folder / name).is_file() for name in WITH[header])), None)


def declares(folder: Path, header: str, name: str) -> bool:
    return re.search(rf"\b{name}\b", (folder / header).read_text()) is not None


def ask(folder: Path, header: str, questions: Iterable[str], build: Path) -> dict[str, str]:
    """The output of a program of these FUNCTION, NUMBER, SIZE and PLACE lines, by their first word."""
    source = build / "ask.cpp"
    # The switch by which NVIDIA's own libraries see every version of a function, and not the newest alone.
    source.write_text(
        f"#define __CUDA_API_VERSION_INTERNAL\n#include <{header}>\n{DESCRIBE}\n"
        f"int main() {{\n{chr(10).join(questions)}\n}}\n"
    )
    assert COMPILER is not None
    program = str(build / "ask")
    done = subprocess.run(
        [COMPILER, "-std=c++17", "-w", "-I", str(folder), "-o", program, str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}


def described(kind: Any) -> str:
    """A ctypes type in the same words."""
    if kind is ctypes.c_void_p:
        return "p"
    if kind is ctypes.c_char_p:
        return "pi8"
    if issubclass(kind, ctypes.Structure):
        return f"s{ctypes.sizeof(kind)}"
    if hasattr(kind, "contents"):
        return "p" + described(kind._type_)
    sign = "i" if kind(-1).value < 0 else "u"
    return f"{sign}{8 * ctypes.sizeof(kind)}"


def fits(ours: str, theirs: str) -> bool:
    """Whether what ctypes passes is what is declared; a pointer to anything fits every pointer."""
    if ours == "p":
        return theirs.startswith("p")
    if ours.startswith("pp"):
        return theirs.startswith("p") and fits(ours[1:], theirs[1:])
    return ours == theirs
