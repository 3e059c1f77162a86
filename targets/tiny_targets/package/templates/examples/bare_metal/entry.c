/* From the start-up code into `main`; its result stays in `example_result`. */
int main(void);
void device_main(void);
void example_done(void);

volatile int example_result;

__attribute__((noinline, used)) void example_done(void) {
    for (;;) __asm__ volatile("");
}

void device_main(void) {
    example_result = main();
    example_done();
}
