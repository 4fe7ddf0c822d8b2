/* a * b + c, rounded once. Without it, as in -DONWARD_FMA(a,b,c)=((a)*(b)+(c)), results differ in the last bits. */
#ifndef ONWARD_FMA
#define ONWARD_FMA(a, b, c) fmaf(a, b, c)
#endif
#define FMA_DOUBLE(a, b, c) fma(a, b, c)
#define ROOT(x) sqrtf(x)
#define ROOT_DOUBLE(x) sqrt(x)
#define INFINITE INFINITY
#define NOT_A_NUMBER NAN
