/* Subnormal results become 0, as in Onward: by the processor, or else where numbers are stored. */
#if defined(__GNUC__) && defined(__SSE2__)
#define FLUSHED(x) (x)
typedef unsigned float_mode;
static float_mode flush_subnormals(void)
{
    unsigned mode, flushing;
    __asm__ volatile("stmxcsr %0" : "=m"(mode) : : "memory");
    flushing = mode | 0x8040u;
    __asm__ volatile("ldmxcsr %0" : : "m"(flushing) : "memory");
    return mode;
}
static void restore_mode(float_mode mode)
{
    __asm__ volatile("ldmxcsr %0" : : "m"(mode) : "memory");
}
#elif defined(__GNUC__) && defined(__aarch64__)
#define FLUSHED(x) (x)
typedef uint64_t float_mode;
static void restore_mode(float_mode mode)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory");
}
static float_mode flush_subnormals(void)
{
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode) : : "memory");
    restore_mode(mode | (UINT64_C(1) << 24));
    return mode;
}
#elif defined(__GNUC__) && defined(__ARM_FP)
#define FLUSHED(x) (x)
typedef uint32_t float_mode;
static void restore_mode(float_mode mode)
{
    __asm__ volatile("vmsr fpscr, %0" : : "r"(mode) : "memory");
}
static float_mode flush_subnormals(void)
{
    uint32_t mode;
    __asm__ volatile("vmrs %0, fpscr" : "=r"(mode) : : "memory");
    restore_mode(mode | (UINT32_C(1) << 24));
    return mode;
}
#else
#define FLUSHED(x) flushed(x)
typedef int float_mode;
static float flushed(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7f800000u) == 0) bits &= 0x80000000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static float_mode flush_subnormals(void)
{
    return 0;
}
static void restore_mode(float_mode mode)
{
    (void)mode;
}
#endif
