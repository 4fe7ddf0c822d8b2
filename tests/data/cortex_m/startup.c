/* Starts a program on a Cortex-M with the library of the semihosting debugger. */
#include <stdint.h>

extern uint32_t stack_end;
extern void _start(void);

void reset(void)
{
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* turns on the floating-point unit */
    __asm__ volatile("dsb\n\tisb");
    _start();
}

__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    void (*reset)(void);
} vectors = {&stack_end, reset};
