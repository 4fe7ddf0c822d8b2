typedef struct {
    float re, im;
} complex_number;

static complex_number complex_of(float re, float im)
{
    complex_number z;
    z.re = re;
    z.im = im;
    return z;
}

static complex_number plus(complex_number a, complex_number b)
{
    return complex_of(a.re + b.re, a.im + b.im);
}

static complex_number minus(complex_number a, complex_number b)
{
    return complex_of(a.re - b.re, a.im - b.im);
}

static complex_number times_minus_i(complex_number z)
{
    return complex_of(z.im, -z.re);
}

/* The product with cos - i sin. */
static complex_number turned(complex_number z, const float *turn)
{
    return complex_of(ONWARD_FMA(z.im, turn[1], z.re * turn[0]), ONWARD_FMA(z.re, -turn[1], z.im * turn[0]));
}

/* One stage: points = before * radix * after. Elements i of `after` of the `radix` parts of a group become the elements
   i of one group in each of `radix` parts, turned by the angle 2 pi part i / (radix * after). */
typedef struct {
    int before, radix, after;
    const complex_number *from;
    complex_number *to;
    const float *turns;
} stage;

static complex_number part_of(const stage *s, int i, int number, int group)
{
    return s->from[i + s->after * (number + s->radix * group)];
}

static void put_part(const stage *s, int i, int number, int group, complex_number z)
{
    if (number && i) z = turned(z, s->turns + 2 * ((number - 1) * s->after + i));
    s->to[i + s->after * (group + s->before * number)] = complex_of(FLUSHED(z.re), FLUSHED(z.im));
}

static void radix_2(const stage *s, int i, int group)
{
    const complex_number a = part_of(s, i, 0, group), b = part_of(s, i, 1, group);
    put_part(s, i, 0, group, plus(a, b));
    put_part(s, i, 1, group, minus(a, b));
}

static void radix_3(const stage *s, int i, int group)
{
    const complex_number a = part_of(s, i, 0, group), b = part_of(s, i, 1, group), c = part_of(s, i, 2, group);
    const complex_number sum = plus(b, c), difference = minus(b, c);
    const float root = 0x1.bb67aep-1f; /* sqrt(3) / 2 */
    const complex_number middle = complex_of(ONWARD_FMA(sum.re, -0.5f, a.re), ONWARD_FMA(sum.im, -0.5f, a.im));
    const complex_number side = times_minus_i(complex_of(difference.re * root, difference.im * root));
    put_part(s, i, 0, group, plus(a, sum));
    put_part(s, i, 1, group, plus(middle, side));
    put_part(s, i, 2, group, minus(middle, side));
}

static void radix_4(const stage *s, int i, int group)
{
    const complex_number a = part_of(s, i, 0, group), b = part_of(s, i, 1, group), c = part_of(s, i, 2, group),
                         d = part_of(s, i, 3, group);
    const complex_number even = plus(a, c), odd = plus(b, d), low = minus(a, c), high = times_minus_i(minus(b, d));
    put_part(s, i, 0, group, plus(even, odd));
    put_part(s, i, 1, group, plus(low, high));
    put_part(s, i, 2, group, minus(even, odd));
    put_part(s, i, 3, group, minus(low, high));
}

/* Row `number - 1` of the matrix holds the cosines and sines of its multiples. */
static void odd_radix(const stage *s, int i, int group, const float *matrix)
{
    const int half = s->radix / 2;
    const complex_number first = part_of(s, i, 0, group);
    complex_number total = first;
    int k, number;
    for (k = 0; k < half; k++) total = plus(total, plus(part_of(s, i, 1 + k, group), part_of(s, i, s->radix - 1 - k, group)));
    put_part(s, i, 0, group, total);
    for (number = 1; number <= half; number++) {
        complex_number even = first, odd = complex_of(0.0f, 0.0f), side;
        for (k = 0; k < half; k++) {
            const complex_number a = part_of(s, i, 1 + k, group), b = part_of(s, i, s->radix - 1 - k, group);
            const complex_number sum = plus(a, b), difference = minus(a, b);
            const float *const turn = matrix + 2 * ((number - 1) * half + k);
            even = complex_of(ONWARD_FMA(sum.re, turn[0], even.re), ONWARD_FMA(sum.im, turn[0], even.im));
            odd = complex_of(ONWARD_FMA(difference.re, turn[1], odd.re), ONWARD_FMA(difference.im, turn[1], odd.im));
        }
        side = times_minus_i(odd);
        put_part(s, i, number, group, plus(even, side));
        put_part(s, i, s->radix - number, group, minus(even, side));
    }
}

/* A Fourier transform of n numbers, of which those beyond `length` are 0. Half as many complex numbers stand for an even
   number of real ones. The table holds cosines and sines: for each factor, those that turn its parts, and if it is larger
   than 4, those of its own transform; from `turns` on, those that join the halves of real numbers. */
typedef struct {
    int n, points, stages;
    const int32_t *factors;
    const float *table;
    int turns;
    const float *window;
    int inverse, is_complex_x, is_complex_y, length, bins, x_step, x_part, y_step, y_part;
} transform;

static complex_number *transformed(const transform *f, complex_number *points, complex_number *other)
{
    const float *table = f->table;
    int before = 1, number, group, i;
    for (number = 0; number < f->stages; number++) {
        complex_number *const next = points;
        const float *matrix;
        stage s;
        s.radix = (int)f->factors[number];
        s.before = before;
        s.after = f->points / before / s.radix;
        s.from = points;
        s.to = other;
        s.turns = table;
        table += 2 * (s.radix - 1) * s.after;
        matrix = table;
        if (s.radix > 4) table += 2 * (s.radix / 2) * (s.radix / 2);
        for (group = 0; group < before; group++)
            for (i = 0; i < s.after; i++) switch (s.radix) {
                case 2: radix_2(&s, i, group); break;
                case 3: radix_3(&s, i, group); break;
                case 4: radix_4(&s, i, group); break;
                default: odd_radix(&s, i, group, matrix);
            }
        before *= s.radix;
        points = other;
        other = next;
    }
    return points;
}

static float number_at(const transform *f, const float *x, int i, int part)
{
    if (i >= f->length) return 0.0f;
    return f->window ? x[i * f->x_step + part * f->x_part] * f->window[i] : x[i * f->x_step + part * f->x_part];
}

/* The spectrum X of n real numbers from that of n / 2 complex ones, Z: X[k] = E[k] + O[k] (cos - i sin) with the sum E
   and the difference O of Z[k] and the conjugate of Z[n / 2 - k]. */
static complex_number of_halves(complex_number a, complex_number b, const float *turn)
{
    const complex_number conjugate = complex_of(b.re, -b.im), even = plus(a, conjugate);
    const complex_number whole = plus(even, turned(times_minus_i(minus(a, conjugate)), turn));
    return complex_of(whole.re * 0.5f, whole.im * 0.5f);
}

/* Its inverse, twice as large, with real and imaginary parts exchanged. */
static complex_number to_halves(complex_number a, complex_number b, const float *turn)
{
    const complex_number conjugate = complex_of(b.re, -b.im), sum = plus(a, conjugate);
    const complex_number difference = minus(a, conjugate);
    const complex_number exchanged = turned(complex_of(difference.im, difference.re), turn);
    return complex_of(sum.im + exchanged.im, sum.re - exchanged.re);
}

/* Loads what the transform takes; `spectrum` has room for half a spectrum. */
static void load_points(const transform *f, const float *x, complex_number *spectrum, complex_number *points)
{
    const int is_half = f->points < f->n, middle = f->n / 2;
    int i;
    if (!f->is_complex_x) {
        for (i = 0; i < f->points; i++)
            points[i] = is_half ? complex_of(number_at(f, x, 2 * i, 0), number_at(f, x, 2 * i + 1, 0))
                                : complex_of(number_at(f, x, i, 0), 0.0f);
        return;
    }
    if (f->is_complex_y) {
        for (i = 0; i < f->n; i++)
            points[i] = complex_of(number_at(f, x, i, f->inverse), number_at(f, x, i, !f->inverse));
        return;
    }
    for (i = 0; i <= middle; i++)
        spectrum[i] = complex_of(number_at(f, x, i, 0), i == 0 || 2 * i == f->n ? 0.0f : number_at(f, x, i, 1));
    for (i = 0; i < f->points; i++)
        points[i] = is_half ? to_halves(spectrum[i], spectrum[middle - i], f->table + f->turns + 2 * i)
                            : i <= middle ? complex_of(spectrum[i].im, spectrum[i].re)
                                          : complex_of(-spectrum[f->n - i].im, spectrum[f->n - i].re);
}

static void put_number(const transform *f, float *y, int i, float re, float im)
{
    y[i * f->y_step] = FLUSHED(re);
    if (f->is_complex_y) y[i * f->y_step + f->y_part] = FLUSHED(im);
}

static void store_points(const transform *f, const complex_number *points, float *y)
{
    const int is_half = f->points < f->n;
    const float scale = 1.0f / (float)f->n;
    int i;
    if (!f->is_complex_y) {
        for (i = 0; i < f->points; i++) {
            put_number(f, y, is_half ? 2 * i : i, points[i].im * scale, 0.0f);
            if (is_half) put_number(f, y, 2 * i + 1, points[i].re * scale, 0.0f);
        }
    } else if (f->inverse) {
        for (i = 0; i < f->bins; i++) put_number(f, y, i, points[i].im * scale, points[i].re * scale);
    } else if (!is_half) {
        for (i = 0; i < f->bins; i++) put_number(f, y, i, points[i].re, points[i].im);
    } else {
        for (i = 0; i <= f->points; i++) {
            const complex_number found = of_halves(points[i % f->points], points[(f->points - i) % f->points],
                                                   f->table + f->turns + 2 * i);
            if (i < f->bins) put_number(f, y, i, found.re, found.im);
            if (i && f->n - i < f->bins) put_number(f, y, f->n - i, found.re, -found.im);
        }
    }
}

/* `memory` has room for 4 points + 2 numbers. */
static void fourier(const transform *f, const float *x, float *y, complex_number *memory)
{
    load_points(f, x, memory + f->points, memory);
    store_points(f, transformed(f, memory, memory + f->points), y);
}
