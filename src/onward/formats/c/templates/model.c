/* $title
   Written by Onward $version. */
#include "$header"

$includes

$arithmetic

$functions

$constants

$definitions
