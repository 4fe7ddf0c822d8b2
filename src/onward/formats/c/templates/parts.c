static inline quotient $name(float x)
{
    return $value;
}
