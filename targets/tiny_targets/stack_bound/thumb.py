"""Decodes Thumb-2 as far as the stack analysis needs it."""

from tiny_targets.stack_bound.instruction import Flow, Instruction, Stack, UnknownEffect, signed

_FRAME, _SP, _LR, _PC = 7, 13, 14, 15
_COMPUTES = "computes the stack pointer"


def decode(code: bytes, place: int, address: int) -> Instruction:
    """The instruction at `code[place:]`, which lies at `address`; raises `UnknownEffect`."""
    first = _half(code, place)
    together = _sequence(code, place)
    if together is not None:
        return together
    if first >> 11 < 0b11101:
        return _short(first, address)
    return _long(first, _half(code, place + 2), address)


def _half(code: bytes, place: int) -> int:
    return int.from_bytes(code[place : place + 2], "little")


def _sequence(code: bytes, place: int) -> Instruction | None:
    """Instructions that only together say what they do to sp: through another register."""
    first, second = _half(code, place), _half(code, place + 2)
    if first & 0xFF78 == 0x4668 and second == 0xF36F:
        # mov rX, sp; bfc rX, #0, #n; mov sp, rX
        register, third = first & 7 | first >> 4 & 8, _half(code, place + 4)
        if third & 0xFFE0 == register << 8 and _half(code, place + 6) == 0x4685 | register << 3:
            return Instruction(8, Stack.ALIGN, 2 << (third & 31))
    if first & 0xFE38 == 0x1E38 and second == 0x4685 | (first & 7) << 3:
        # subs rX, r7, #n; mov sp, rX
        return Instruction(4, Stack.RESTORE, first >> 6 & 7)
    if first & 0xFBEF == 0xF1A7 or first & 0xFBFF == 0xF2A7:
        # sub.w rX, r7, #n; mov sp, rX
        register, amount = second >> 8 & 15, _immediate(first, second)
        if _half(code, place + 4) == 0x4685 | register << 3:
            return Instruction(6, Stack.RESTORE, amount)
    return None


def _short(half: int, address: int) -> Instruction:
    if half >> 12 == 0b1101:
        return _conditional(half, address)
    if half >> 11 == 0b11100:
        target = address + 4 + signed((half & 0x7FF) << 1, 12)
        return Instruction(2, flow=Flow.JUMP, target=target)
    if half >> 12 == 0b1011:
        return _miscellaneous(half, address)
    if half & 0xFF00 == 0xA800 | _FRAME << 8:
        return Instruction(2, Stack.FRAME, (half & 0xFF) * 4)
    if half >> 10 == 0b010001:
        return _high_registers(half)
    return Instruction(2)


def _conditional(half: int, address: int) -> Instruction:
    condition = half >> 8 & 15
    if condition == 14:
        return Instruction(2, flow=Flow.STOP)
    if condition == 15:
        return Instruction(2)
    return Instruction(2, flow=Flow.BRANCH, target=address + 4 + signed((half & 0xFF) << 1, 9))


def _miscellaneous(half: int, address: int) -> Instruction:
    """Push, pop, sp and a constant, cbz, IT."""
    if half & 0xFE00 == 0xB400:
        return Instruction(2, amount=4 * (half & 0x1FF).bit_count())
    if half & 0xFE00 == 0xBC00:
        flow = Flow.RETURN if half & 0x100 else Flow.NEXT
        return Instruction(2, amount=-4 * (half & 0x1FF).bit_count(), flow=flow)
    if half & 0xFF00 == 0xB000:
        amount = (half & 0x7F) * 4
        return Instruction(2, amount=amount if half & 0x80 else -amount)
    if half & 0xF500 == 0xB100:
        target = address + 4 + (half >> 3 & 0x40 | half >> 2 & 0x3E)
        return Instruction(2, flow=Flow.BRANCH, target=target)
    if half & 0xFF00 == 0xBF00 and half & 15:
        lowest = half & -half & 15
        return Instruction(2, conditional=4 - (lowest.bit_length() - 1))
    return Instruction(2)


def _high_registers(half: int) -> Instruction:
    """Add, cmp, mov and branches on any register."""
    kind, rd, rm = half >> 8 & 3, half & 7 | half >> 4 & 8, half >> 3 & 15
    if kind == 3:
        return _exchange(half, rm)
    if kind == 1:
        return Instruction(2)
    if kind == 0 and rd in (_SP, _PC):
        raise UnknownEffect(_COMPUTES if rd == _SP else "computes the program counter")
    if kind == 2 and rd == _SP:
        if rm != _FRAME:
            raise UnknownEffect(_COMPUTES)
        return Instruction(2, Stack.RESTORE)
    if kind == 2 and rd == _PC:
        return Instruction(2, flow=Flow.RETURN if rm == _LR else Flow.JUMP)
    is_frame = kind == 2 and (rd, rm) == (_FRAME, _SP)
    return Instruction(2, Stack.FRAME) if is_frame else Instruction(2)


def _exchange(half: int, rm: int) -> Instruction:
    if half & 0x80:
        return Instruction(2, flow=Flow.CALL)
    return Instruction(2, flow=Flow.RETURN if rm == _LR else Flow.LEAVE)


def _long(first: int, second: int, address: int) -> Instruction:
    if first >> 11 == 0b11110:
        if second & 0x8000:
            return _branch(first, second, address)
        return _constant(first, second)
    if first & 0xFE40 == 0xE800:
        return _multiple(first, second)
    if first & 0xFE40 == 0xE840:
        return _double(first, second)
    if first & 0xFE00 == 0xEA00:
        return _registers(first, second)
    if first & 0xFE00 == 0xF800:
        return _single(first, second)
    if first & 0xFE00 == 0xEC00:
        return _float_multiple(first, second)
    if first & 0xFE00 == 0xFA00 and second >> 8 & 15 == _SP:
        raise UnknownEffect(_COMPUTES)
    return Instruction(4)


def _branch(first: int, second: int, address: int) -> Instruction:
    """Calls, long branches and the system instructions between them."""
    kind, sign = second & 0xD000, first >> 10 & 1
    if kind in (0xD000, 0x9000):
        j1, j2 = (~(second >> place ^ sign) & 1 for place in (13, 11))
        offset = sign << 24 | j1 << 23 | j2 << 22 | (first & 0x3FF) << 12 | (second & 0x7FF) << 1
        flow = Flow.CALL if kind == 0xD000 else Flow.JUMP
        return Instruction(4, flow=flow, target=address + 4 + signed(offset, 25))
    if kind == 0xC000:
        raise UnknownEffect("changes to another instruction set")
    if first >> 6 & 15 < 14:
        offset = sign << 20 | (second >> 11 & 1) << 19 | (second >> 13 & 1) << 18
        offset |= (first & 0x3F) << 12 | (second & 0x7FF) << 1
        return Instruction(4, flow=Flow.BRANCH, target=address + 4 + signed(offset, 21))
    if first & 0xFFE0 == 0xF380 and second & 0xFF in (8, 9):
        raise UnknownEffect(_COMPUTES)
    is_trap = first & 0xFFF0 == 0xF7F0 and second & 0xF000 == 0xA000
    return Instruction(4, flow=Flow.STOP if is_trap else Flow.NEXT)


def _immediate(first: int, second: int) -> int:
    """The constant of an addition or subtraction: 12 bits, or 8 bits that are expanded."""
    value = (first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF
    if first & 0x0200:
        return value
    if value >> 10 == 0:
        byte = value & 0xFF
        return (byte, byte * 0x00010001, byte * 0x01000100, byte * 0x01010101)[value >> 8 & 3]
    rotation = value >> 7
    return (0x80 | value & 0x7F) << (32 - rotation)


def _constant(first: int, second: int) -> Instruction:
    """Data processing with a constant."""
    rn, rd, operation = first & 15, second >> 8 & 15, first >> 5 & 0x1F
    adds, subtracts = operation in (0b01000, 0b10000), operation in (0b01101, 0b10101)
    if rd == _FRAME and rn == _SP and adds:
        return Instruction(4, Stack.FRAME, _immediate(first, second))
    if rd != _SP:
        return Instruction(4)
    if rn == _SP and (adds or subtracts):
        amount = _immediate(first, second)
        return Instruction(4, amount=amount if subtracts else -amount)
    if rn == _FRAME and (adds or subtracts):
        amount = _immediate(first, second)
        return Instruction(4, Stack.RESTORE, amount if subtracts else -amount)
    raise UnknownEffect(_COMPUTES)


def _multiple(first: int, second: int) -> Instruction:
    """Loads and stores of several registers."""
    loads, writes_back, down = first >> 4 & 1, first >> 5 & 1, first >> 8 & 1
    count, jumps = second.bit_count(), loads and second >> _PC & 1
    if first & 15 != _SP:
        if jumps or (loads and second >> _SP & 1):
            raise UnknownEffect("loads the stack pointer or the program counter")
        return Instruction(4)
    if not writes_back:
        if jumps:
            raise UnknownEffect("returns without its stack")
        return Instruction(4)
    if loads == down:
        raise UnknownEffect(_COMPUTES)
    amount = 4 * count if down else -4 * count
    return Instruction(4, amount=amount, flow=Flow.RETURN if jumps else Flow.NEXT)


def _double(first: int, second: int) -> Instruction:
    """Loads and stores of two registers, and table branches."""
    if first & 0xFFF0 == 0xE8D0 and second & 0xFFE0 == 0xF000:
        return Instruction(4, flow=Flow.JUMP)
    before, up, writes_back = (first >> place & 1 for place in (8, 7, 5))
    if first >> 4 & 1 and (before or writes_back) and _SP in (second >> 12, second >> 8 & 15):
        raise UnknownEffect("loads the stack pointer")
    if first & 15 != _SP or not writes_back:
        return Instruction(4)
    amount = (second & 0xFF) * 4
    return Instruction(4, amount=-amount if up else amount)


def _registers(first: int, second: int) -> Instruction:
    """Data processing with registers."""
    if second >> 8 & 15 != _SP:
        return Instruction(4)
    if (first, second & 0x70FF) == (0xEA4F, _FRAME):
        return Instruction(4, Stack.RESTORE)
    raise UnknownEffect(_COMPUTES)


def _single(first: int, second: int) -> Instruction:
    """Loads and stores of one register."""
    rn, rt, loads_word = first & 15, second >> 12, first & 0x0070 == 0x0050
    if loads_word and rt == _SP:
        raise UnknownEffect("loads the stack pointer")
    amount, flow = 0, Flow.NEXT
    writes_back = not first & 0x0080 and rn != _PC and second & 0x0900 == 0x0900
    if writes_back and rn == _SP:
        amount = second & 0xFF
        amount = -amount if second & 0x0200 else amount
    if loads_word and rt == _PC:
        if not (writes_back and rn == _SP):
            raise UnknownEffect("loads the program counter")
        flow = Flow.RETURN
    return Instruction(4, amount=amount, flow=flow)


def _float_multiple(first: int, second: int) -> Instruction:
    """Loads and stores of several float registers."""
    if first & 15 != _SP or not first >> 5 & 1:
        return Instruction(4)
    amount = (second & 0xFF) * 4
    return Instruction(4, amount=-amount if first >> 7 & 1 else amount)
