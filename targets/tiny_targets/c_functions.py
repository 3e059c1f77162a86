"""The C functions behind a model's header.

A call checks its arguments before it touches anything. A training step runs up to its loss, which
decides whether the updates that follow may run.
"""

from tiny_dialect.errors import InvalidModel
from tiny_targets.c_api import (
    begin_signature,
    infer_signature,
    result_of,
    resume_signature,
    train_signature,
)
from tiny_targets.schedule import Buffer, Function, Schedule

_SPACES = ("TINY_ARENA", "TINY_STATE", "TINY_CONSTANTS")


def implementation(schedule: Schedule, prefix: str, constants: str, query: str) -> str:
    """The functions of the header; `constants` and `query` are the symbols of flash and kernels."""
    parts = [_init(schedule, prefix, constants, query)]
    if "infer" in schedule.functions:
        parts.append(_infer(schedule.functions["infer"], prefix))
    if "train_step" in schedule.functions:
        parts.append(_train(schedule.functions["train_step"], prefix))
    if schedule.state:
        parts.append(_state(prefix))
    return "\n".join(parts)


def _init(schedule: Schedule, prefix: str, constants: str, query: str) -> str:
    upper = prefix.upper()
    return f"""\
{prefix}_status {prefix}_init({prefix}_t *model, void *arena, size_t arena_bytes,
    void *state, size_t state_bytes) {{
    if (!model || !arena || !state) return {upper}_NULL_ARGUMENT;
    if (arena_bytes < {upper}_ARENA_BYTES) return {upper}_TOO_SMALL;
    if (state_bytes < {upper}_STATE_BYTES) return {upper}_TOO_SMALL;
    if (((uintptr_t)arena | (uintptr_t)state) % {upper}_ALIGNMENT) return {upper}_MISALIGNED;
    model->ready = 0;
    if (tiny_bind_kernels(model, {query}, {len(schedule.kernels)}u)) return {upper}_NO_KERNELS;
    model->bases[TINY_ARENA] = (uint8_t *)arena;
    model->bases[TINY_STATE] = (uint8_t *)state;
    model->bases[TINY_CONSTANTS] = (uint8_t *)(uintptr_t){constants};
    model->is_running = 0;
    model->next = 0;
    model->loss_limit = TINY_LARGEST_FLOAT;
    tiny_initialize_state(model, initializers, INITIALIZER_COUNT);
    model->ready = TINY_READY;
    return {upper}_OK;
}}

static {prefix}_status require_idle(const {prefix}_t *model) {{
    if (!model) return {upper}_NULL_ARGUMENT;
    if (model->ready != TINY_READY) return {upper}_NOT_INITIALISED;
    return model->is_running ? {upper}_BUSY : {upper}_OK;
}}
"""


def _address(buffer: Buffer) -> str:
    return f"model->bases[{_SPACES[buffer.space]}] + {buffer.offset}"


def _input(function: Function, prefix: str, name: str) -> str:
    if function.stream:
        return ""
    place = _address(function.arguments[0])
    return f"""\
int8_t *{prefix}_{name}_input({prefix}_t *model) {{
    return require_idle(model) == {prefix.upper()}_OK ? (int8_t *)({place}) : NULL;
}}
"""


def _take_input(function: Function, upper: str) -> str:
    """Remember where rows come from, or copy the input to its place."""
    x = function.arguments[0]
    if function.stream:
        return (
            f"if (!rows) return {upper}_NULL_ARGUMENT;\n"
            "    model->rows = rows;\n    model->rows_from = from;"
        )
    return f"if (x) tiny_copy({_address(x)}, x, {x.bytes}u);"


def _infer(function: Function, prefix: str) -> str:
    logits, upper = result_of(function, "logits"), prefix.upper()
    return f"""\
{_input(function, prefix, "infer")}
{infer_signature(function, prefix)} {{
    {prefix}_status status = require_idle(model);
    if (status != {upper}_OK) return status;
    {_take_input(function, upper)}
    int failed = tiny_run(model, &infer_program, 0, {len(function.commands)}u);
    if (failed) return failed == TINY_INPUT_FAILED ? {upper}_INPUT_FAILED : {upper}_KERNEL_FAILED;
    if (logits) tiny_copy(logits, {_address(logits)}, {logits.bytes}u);
    return {upper}_OK;
}}
"""


def commands_before_loss(function: Function) -> int:
    """How many commands of a training step run until its loss is known, none of them an update.

    Raises `InvalidModel` where an update comes before: such a step could not be refused whole.
    """
    loss = result_of(function, "loss")
    place = (loss.space, loss.offset)
    known = 0
    for number, command in enumerate(function.commands, start=1):
        if any((result.space, result.offset) == place for result in command.results):
            known = number
    for command in function.commands[:known]:
        if not command.results:
            raise InvalidModel(
                "updates a parameter before the loss is known; run tiny-reorder", command.name
            )
    return known


def _train(function: Function, prefix: str) -> str:
    _, label, rate = function.arguments
    upper, loss = prefix.upper(), result_of(function, "loss")
    return f"""\
#define LOSS_IS_KNOWN {commands_before_loss(function)}u
{_input(function, prefix, "train")}
static uint32_t bits_of(float value) {{
    uint32_t bits;
    tiny_copy(&bits, &value, 4u);
    return bits;
}}

{prefix}_status {prefix}_set_loss_limit({prefix}_t *model, float limit) {{
    if (!model) return {upper}_NULL_ARGUMENT;
    if (model->ready != TINY_READY) return {upper}_NOT_INITIALISED;
    uint32_t bits = bits_of(limit);
    model->loss_limit = bits > TINY_LARGEST_FLOAT ? 0 : bits;
    return {upper}_OK;
}}

{begin_signature(function, prefix)} {{
    {prefix}_status status = require_idle(model);
    if (status != {upper}_OK) return status;
    if (label < 0 || label >= (int32_t){upper}_CLASSES) return {upper}_BAD_LABEL;
    if (!tiny_is_within(bits_of(rate), TINY_LARGEST_FLOAT)) return {upper}_BAD_RATE;
    {_take_input(function, upper)}
    tiny_copy({_address(label)}, &label, 4u);
    tiny_copy({_address(rate)}, &rate, 4u);
    model->next = 0;
    model->is_running = 1;
    return {upper}_OK;
}}

/* Where the slice that starts at `next` ends; the loss is looked at before anything is updated. */
static uint32_t slice_end(uint32_t next, uint32_t ops, uint32_t end) {{
    if (ops == 0) ops = 1;
    return ops < end - next ? next + ops : end;
}}

static {prefix}_status run_until({prefix}_t *model, uint32_t end) {{
    uint32_t first = model->next, loss;
    model->next = end;
    int failed = tiny_run(model, &train_step_program, first, end);
    if (failed) return failed == TINY_INPUT_FAILED ? {upper}_INPUT_FAILED : {upper}_KERNEL_FAILED;
    if (end != LOSS_IS_KNOWN) return {upper}_OK;
    tiny_copy(&loss, {_address(loss)}, 4u);
    return tiny_is_within(loss, model->loss_limit) ? {upper}_OK : {upper}_LOSS_REJECTED;
}}
{_resume(function, prefix)}"""


def _resume(function: Function, prefix: str) -> str:
    upper, count = prefix.upper(), len(function.commands)
    arguments = "rows, from" if function.stream else "x"
    loss, logits = result_of(function, "loss"), result_of(function, "logits")
    return f"""
{resume_signature(function, prefix)} {{
    {prefix}_status status = require_idle(model);
    if (status == {upper}_OK) return {upper}_NO_STEP;
    if (status != {upper}_BUSY) return status;
    uint32_t end = slice_end(model->next, ops, {count}u);
    status = {upper}_OK;
    if (model->next < LOSS_IS_KNOWN)
        status = run_until(model, end < LOSS_IS_KNOWN ? end : LOSS_IS_KNOWN);
    if (status == {upper}_OK && model->next < end) status = run_until(model, end);
    if (status == {upper}_OK && end < {count}u) return {upper}_IN_PROGRESS;
    model->is_running = 0;
    if (status != {upper}_OK && status != {upper}_LOSS_REJECTED) return status;
    if (loss) tiny_copy(loss, {_address(loss)}, 4u);
    if (logits) tiny_copy(logits, {_address(logits)}, {logits.bytes}u);
    return status;
}}

{train_signature(function, prefix)} {{
    {prefix}_status status = {prefix}_step_begin(model, {arguments}, label, rate);
    if (status != {upper}_OK) return status;
    return {prefix}_step_resume(model, TINY_ALL_COMMANDS, loss, logits);
}}
"""


def _state(prefix: str) -> str:
    upper = prefix.upper()
    return f"""\
static {prefix}_status status_of(tiny_blob_status status) {{
    static const uint8_t table[] = {{{upper}_OK, {upper}_TRUNCATED, {upper}_NO_BLOB,
        {upper}_OTHER_MODEL, {upper}_CORRUPT, {upper}_READ_FAILED, {upper}_CHANGED,
        {upper}_NOT_FINITE}};
    return ({prefix}_status)table[status];
}}

{prefix}_status {prefix}_open(const {prefix}_t *model, tiny_blob_t *blob) {{
    {prefix}_status status = require_idle(model);
    if (status != {upper}_OK) return status;
    if (!blob) return {upper}_NULL_ARGUMENT;
    return status_of(tiny_blob_open(blob, &state_layout, model->bases[TINY_STATE]));
}}

{prefix}_status {prefix}_save(const {prefix}_t *model, void *blob, size_t bytes) {{
    tiny_blob_t view;
    if (!blob) return {upper}_NULL_ARGUMENT;
    if (bytes < {upper}_BLOB_BYTES) return {upper}_TOO_SMALL;
    {prefix}_status status = {prefix}_open(model, &view);
    if (status != {upper}_OK) return status;
    return tiny_blob_read(&view, 0, blob, {upper}_BLOB_BYTES) ? {upper}_READ_FAILED : {upper}_OK;
}}

{prefix}_status {prefix}_restore_from(
    {prefix}_t *model, tiny_read_t read, void *from, size_t bytes) {{
    {prefix}_status status = require_idle(model);
    if (status != {upper}_OK) return status;
    if (!read) return {upper}_NULL_ARGUMENT;
    uint32_t size = bytes < {upper}_BLOB_BYTES ? (uint32_t)bytes : {upper}_BLOB_BYTES;
    status = status_of(
        tiny_blob_restore(&state_layout, model->bases[TINY_STATE], read, from, size));
    if (status == {upper}_CHANGED) tiny_initialize_state(model, initializers, INITIALIZER_COUNT);
    return status;
}}

{prefix}_status {prefix}_restore({prefix}_t *model, const void *blob, size_t bytes) {{
    if (!blob) return {upper}_NULL_ARGUMENT;
    return {prefix}_restore_from(model, tiny_read_memory, (void *)(uintptr_t)blob, bytes);
}}
"""
