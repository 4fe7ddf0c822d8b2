/* $title
   Written by Onward $version. C99; link nothing but ${libraries}. Compile with -ffp-contract=off for the bits of Onward. */
#ifndef ${PREFIX}_H
#define ${PREFIX}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

$macros

$structs
$declarations

#ifdef __cplusplus
}
#endif

#endif
