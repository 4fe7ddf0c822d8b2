/* a * b + c, rounded once. Without it, as in -DONWARD_FMA(a,b,c)=((a)*(b)+(c)), results differ in the last bits. */
#ifndef ONWARD_FMA
#define ONWARD_FMA(a, b, c) fused(a, b, c)
#endif
#define FMA_DOUBLE(a, b, c) fused_double(a, b, c)
#define ROOT(x) ((float)root(x))
#define ROOT_DOUBLE(x) root(x)
#define INFINITE (1.0f / 0.0f) /* which may initialize a constant */
#define NOT_A_NUMBER (0.0f / 0.0f)
