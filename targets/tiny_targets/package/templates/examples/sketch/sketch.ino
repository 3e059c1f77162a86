// @model@ on an Arduino core: learns from whatever `read_sample` and `read_label` say.
#include <@name@.h>

alignas(16) static uint8_t arena[@NAME@_ARENA_BYTES];
alignas(16) static uint8_t state[@NAME@_STATE_BYTES];
static @name@_t model;

@sketch_sample@
void setup() {
  Serial.begin(115200);
  if (@name@_init(&model, arena, sizeof arena, state, sizeof state) != @NAME@_OK) {
    Serial.println("init failed");
  }
}

void loop() {
@sketch_loop@}
