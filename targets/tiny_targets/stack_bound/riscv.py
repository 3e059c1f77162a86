"""Decodes RV32IMAFC as far as the stack analysis needs it."""

from tiny_targets.stack_bound.instruction import Flow, Instruction, Stack, UnknownEffect, signed

_RA, _SP, _S0 = 1, 2, 8
_AUIPC, _JALR = 0x17, 0x67
_FROM_FLOAT = (0x50, 0x60, 0x70)
"""Float instructions, by their highest bits, that write an integer register."""
_TRAP = 0xC0001073


def decode(code: bytes, place: int, address: int) -> Instruction:
    """The instruction at `code[place:]`, which lies at `address`; raises `UnknownEffect`."""
    low = int.from_bytes(code[place : place + 2], "little")
    if low & 3 != 3:
        return _compressed(low, address)
    word = int.from_bytes(code[place : place + 4], "little")
    if word & 0x7F == _AUIPC:
        following = int.from_bytes(code[place + 4 : place + 8], "little")
        far = _far(word, following, address)
        if far is not None:
            return far
    return _word(word, address)


def _far(auipc: int, jalr: int, address: int) -> Instruction | None:
    """A call or a jump of two instructions; None where the second is something else."""
    register = auipc >> 7 & 31
    if jalr & 0x707F != _JALR or jalr >> 15 & 31 != register:
        return None
    target = (address + (auipc & 0xFFFFF000) + signed(jalr >> 20, 12)) & 0xFFFFFFFF
    flow = {0: Flow.JUMP, _RA: Flow.CALL}.get(jalr >> 7 & 31)
    return None if flow is None else Instruction(8, flow=flow, target=target)


def _word(word: int, address: int) -> Instruction:
    opcode, rd, rs1 = word & 0x7F, word >> 7 & 31, word >> 15 & 31
    immediate = signed(word >> 20, 12)
    match opcode:
        case 0x6F:
            return _jump(rd, address + _jal_offset(word))
        case 0x67:
            return _register_jump(4, rd, rs1)
        case 0x63:
            return Instruction(4, flow=Flow.BRANCH, target=address + _branch_offset(word))
        case 0x13 if rd in (_SP, _S0):
            return _add(word, rd, rs1, immediate)
        case _ if word == _TRAP:
            return Instruction(4, flow=Flow.STOP)
        case 0x53 if word >> 25 & 0x7C not in _FROM_FLOAT:
            return Instruction(4)
        case 0x03 | 0x13 | 0x17 | 0x2F | 0x33 | 0x37 | 0x53 | 0x73 if rd == _SP:
            raise UnknownEffect("computes the stack pointer")
        case _:
            return Instruction(4)


def _add(word: int, rd: int, rs1: int, immediate: int) -> Instruction:
    """`addi` and its like that write sp or the frame pointer."""
    function = word >> 12 & 7
    if rd == _S0:
        is_frame = function == 0 and rs1 == _SP
        return Instruction(4, Stack.FRAME, immediate) if is_frame else Instruction(4)
    if function == 0 and rs1 == _SP:
        return Instruction(4, amount=-immediate)
    if function == 0 and rs1 == _S0:
        return Instruction(4, Stack.RESTORE, -immediate)
    if function == 7 and rs1 == _SP and immediate < 0 and -immediate & (-immediate - 1) == 0:
        return Instruction(4, Stack.ALIGN, -immediate)
    raise UnknownEffect("computes the stack pointer")


def _jump(rd: int, target: int) -> Instruction:
    if rd not in (0, _RA):
        raise UnknownEffect("calls with another return register")
    return Instruction(4, flow=Flow.CALL if rd else Flow.JUMP, target=target & 0xFFFFFFFF)


def _register_jump(size: int, rd: int, rs1: int) -> Instruction:
    if rd == _RA:
        return Instruction(size, flow=Flow.CALL)
    if rd:
        raise UnknownEffect("calls with another return register")
    return Instruction(size, flow=Flow.RETURN if rs1 == _RA else Flow.JUMP)


def _jal_offset(word: int) -> int:
    value = word >> 31 << 20 | (word >> 12 & 0xFF) << 12 | (word >> 20 & 1) << 11
    return signed(value | (word >> 21 & 0x3FF) << 1, 21)


def _branch_offset(word: int) -> int:
    value = word >> 31 << 12 | (word >> 7 & 1) << 11 | (word >> 25 & 0x3F) << 5
    return signed(value | (word >> 8 & 0xF) << 1, 13)


def _compressed(half: int, address: int) -> Instruction:
    if half == 0:
        return Instruction(2, flow=Flow.STOP)
    return (_quadrant0, _quadrant1, _quadrant2)[half & 3](half, address)


def _quadrant0(half: int, address: int) -> Instruction:
    if half >> 13 == 0 and half >> 2 & 7 == 0:
        # c.addi4spn s0
        amount = half >> 7 & 0x30 | half >> 1 & 0x3C0 | half >> 4 & 4 | half >> 2 & 8
        return Instruction(2, Stack.FRAME, amount)
    return Instruction(2)


def _quadrant1(half: int, address: int) -> Instruction:
    function, rd = half >> 13, half >> 7 & 31
    if function in (1, 5):
        flow = Flow.CALL if function == 1 else Flow.JUMP
        return Instruction(2, flow=flow, target=(address + _short_jump(half)) & 0xFFFFFFFF)
    if function >= 6:
        return Instruction(2, flow=Flow.BRANCH, target=address + _short_branch(half))
    if rd != _SP or function == 4:
        return Instruction(2)
    if function == 0:
        return Instruction(2, amount=-signed(half >> 7 & 0x20 | half >> 2 & 0x1F, 6))
    if function == 3:
        # c.addi16sp
        value = half >> 3 & 0x200 | half >> 2 & 0x10 | half << 1 & 0x40
        value |= half << 4 & 0x180 | half << 3 & 0x20
        return Instruction(2, amount=-signed(value, 10))
    raise UnknownEffect("computes the stack pointer")


def _quadrant2(half: int, address: int) -> Instruction:
    function, rd, rs2 = half >> 13, half >> 7 & 31, half >> 2 & 31
    if function != 4:
        if rd == _SP and function in (0, 2):
            raise UnknownEffect("computes the stack pointer")
        return Instruction(2)
    adds = half >> 12 & 1
    if rs2 == 0:
        return _register_jump(2, adds, rd) if rd else Instruction(2)
    if rd == _SP:
        if adds or rs2 != _S0:
            raise UnknownEffect("computes the stack pointer")
        return Instruction(2, Stack.RESTORE)
    is_frame = rd == _S0 and rs2 == _SP and not adds
    return Instruction(2, Stack.FRAME) if is_frame else Instruction(2)


def _short_jump(half: int) -> int:
    value = half >> 1 & 0x800 | half >> 7 & 0x10 | half >> 1 & 0x300 | half << 2 & 0x400
    value |= half >> 1 & 0x40 | half << 1 & 0x80 | half >> 2 & 0xE | half << 3 & 0x20
    return signed(value, 12)


def _short_branch(half: int) -> int:
    value = half >> 4 & 0x100 | half >> 7 & 0x18 | half << 1 & 0xC0 | half >> 2 & 6
    return signed(value | half << 3 & 0x20, 9)
