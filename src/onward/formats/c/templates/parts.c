static quotient $name(float x)
{
    return $value;
}
