/* Runs $title on test vectors, and compares the bits of its outputs with those of Onward. */
#include <stdio.h>
#include <string.h>

#include "$header"

#define BLOCKS $blocks

$vectors

/* Counts the numbers that differ; NaN equals NaN. */
static long differences(const void *found, const void *expected, long n, int size, int is_float)
{
    const unsigned char *const a = found, *const b = expected;
    long i, count = 0;
    for (i = 0; i < n; i++) {
        float x = 0, y = 0;
        if (is_float) {
            memcpy(&x, a + i * size, sizeof x);
            memcpy(&y, b + i * size, sizeof y);
        }
        count += memcmp(a + i * size, b + i * size, (size_t)size) != 0 && !(x != x && y != y);
    }
    return count;
}

int main(void)
{
    long different = 0, numbers = 0;
    int block;
$start
    for (block = 0; block < BLOCKS; block++) {
$run
    }$end
    if (different)
        printf("FAIL: %ld of %ld numbers differ\n", different, numbers);
    else
        printf("PASS: %ld numbers are equal\n", numbers);
    return different != 0;
}
