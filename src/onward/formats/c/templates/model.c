/* $title
   Written by Onward $version. */
#include "$header"

$includes

$arithmetic

/* How many sums a product keeps in registers. */
#ifndef ONWARD_TILE
#define ONWARD_TILE 16
#endif

$functions

$constants

$definitions
