"""The JVM's instructions, read just far enough to tell where two methods begin to differ. Pure.

Format: the Java Virtual Machine Specification, chapter 6. References into the constant pool are
given as what they mean, because compilers number constants differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

_NAMES: Final[Sequence[str]] = """
nop aconst_null iconst_m1 iconst_0 iconst_1 iconst_2 iconst_3 iconst_4 iconst_5 lconst_0 lconst_1
fconst_0 fconst_1 fconst_2 dconst_0 dconst_1 bipush sipush ldc ldc_w ldc2_w iload lload fload dload
aload iload_0 iload_1 iload_2 iload_3 lload_0 lload_1 lload_2 lload_3 fload_0 fload_1 fload_2
fload_3 dload_0 dload_1 dload_2 dload_3 aload_0 aload_1 aload_2 aload_3 iaload laload faload daload
aaload baload caload saload istore lstore fstore dstore astore istore_0 istore_1 istore_2 istore_3
lstore_0 lstore_1 lstore_2 lstore_3 fstore_0 fstore_1 fstore_2 fstore_3 dstore_0 dstore_1 dstore_2
dstore_3 astore_0 astore_1 astore_2 astore_3 iastore lastore fastore dastore aastore bastore castore
sastore pop pop2 dup dup_x1 dup_x2 dup2 dup2_x1 dup2_x2 swap iadd ladd fadd dadd isub lsub fsub dsub
imul lmul fmul dmul idiv ldiv fdiv ddiv irem lrem frem drem ineg lneg fneg dneg ishl lshl ishr lshr
iushr lushr iand land ior lor ixor lxor iinc i2l i2f i2d l2i l2f l2d f2i f2l f2d d2i d2l d2f i2b i2c
i2s lcmp fcmpl fcmpg dcmpl dcmpg ifeq ifne iflt ifge ifgt ifle if_icmpeq if_icmpne if_icmplt
if_icmpge if_icmpgt if_icmple if_acmpeq if_acmpne goto jsr ret tableswitch lookupswitch ireturn
lreturn freturn dreturn areturn return getstatic putstatic getfield putfield invokevirtual
invokespecial invokestatic invokeinterface invokedynamic new newarray anewarray arraylength athrow
checkcast instanceof monitorenter monitorexit wide multianewarray ifnull ifnonnull goto_w jsr_w
""".split()  # noqa: SIM905 - two hundred words as a list would fill three screens

_OPERAND_BYTES: Final = {
    **dict.fromkeys((0x10, 0x12, 0xA9, 0xBC, *range(0x15, 0x1A), *range(0x36, 0x3B)), 1),
    **dict.fromkeys((0x11, 0x13, 0x14, 0x84, *range(0x99, 0xA9), *range(0xB2, 0xB9)), 2),
    **dict.fromkeys((0xBB, 0xBD, 0xC0, 0xC1, 0xC6, 0xC7), 2),
    0xC5: 3,
    **dict.fromkeys((0xB9, 0xBA, 0xC8, 0xC9), 4),
}
_CONSTANT = frozenset({0x13, 0x14, *range(0xB2, 0xBB), 0xBB, 0xBD, 0xC0, 0xC1, 0xC5})
_LDC, _TABLESWITCH, _LOOKUPSWITCH, _WIDE, _IINC = 0x12, 0xAA, 0xAB, 0xC4, 0x84


def first_difference(
    ours: bytes,
    theirs: bytes,
    our_constant: Callable[[int], str],
    their_constant: Callable[[int], str],
) -> tuple[str, str] | None:
    """Return the first instructions in which two methods differ, or None where there is none.

    Args:
        ours: The code of one method.
        theirs: The code of the other.
        our_constant: What an index into the constant pool of the first class means.
        their_constant: The same for the second class.

    Raises:
        ValueError: one of both is no code that can be read.
    """
    mine, others = _read(ours, our_constant), _read(theirs, their_constant)
    while True:
        one, other = next(mine, None), next(others, None)
        # ``ldc`` has a wide form for high indexes; which one it is follows from the numbering.
        if one is None and other is None:
            return None
        if one is None or other is None or _plain(one[1]) != _plain(other[1]):
            return _show(one), _show(other)


def _plain(text: str) -> str:
    return text.replace("ldc_w ", "ldc ", 1)


def _show(found: tuple[int, str] | None) -> str:
    return "the end" if found is None else f"at {found[0]}: {found[1]}"


def _read(code: bytes, constant: Callable[[int], str]) -> Iterator[tuple[int, str]]:
    """Yield position and text of each instruction; jumps by how far they go."""
    position = 0
    while position < len(code):
        opcode = code[position]
        if opcode >= len(_NAMES):
            raise ValueError(f"opcode {opcode}")
        length = _length(code, position, opcode)
        operands = code[position + 1 : position + length]
        if len(operands) != length - 1:
            raise ValueError("the code is cut")
        yield position, f"{_NAMES[opcode]} {_operand_text(opcode, operands, constant)}".rstrip()
        position += length


def _operand_text(opcode: int, operands: bytes, constant: Callable[[int], str]) -> str:
    if opcode == _LDC:
        return constant(operands[0])
    if opcode in _CONSTANT:
        rest = operands[2:].hex()
        return f"{constant(int.from_bytes(operands[:2], 'big'))} {rest}".rstrip()
    return operands.hex()


def _length(code: bytes, position: int, opcode: int) -> int:
    if opcode == _WIDE:
        return 6 if code[position + 1 : position + 2] == bytes([_IINC]) else 4
    if opcode not in (_TABLESWITCH, _LOOKUPSWITCH):
        return 1 + _OPERAND_BYTES.get(opcode, 0)
    start = position + 1 + (-(position + 1) % 4)
    first, second = (
        int.from_bytes(code[start + at : start + at + 4], "big", signed=True) for at in (4, 8)
    )
    # A default, then either a count and pairs, or the lowest and highest value and a target each.
    pairs = first if opcode == _LOOKUPSWITCH else second - first + 1
    size = 8 + 8 * pairs if opcode == _LOOKUPSWITCH else 12 + 4 * pairs
    if pairs < 0 or size > len(code):
        raise ValueError("a switch does not fit")
    return start - position + size
