"""ONNX functions, in the domain `onward`, for what no operator expresses; each is written as its equation.

Other runtimes run the bodies of the functions; Onward runs its own layers, which preserves the bits.
"""

import onnx

DOMAIN, VERSION = "onward", 1

SILU = """silu (x) => (y) {
    s = Sigmoid (x)
    y = Mul (x, s)
}"""

AFFINE = """affine (x, alpha, beta) => (y) {
    ax = Mul (alpha, x)
    y = Add (ax, beta)
}"""

SCALED_TANH = """scaled_tanh (x, alpha, beta) => (y) {
    bx = Mul (beta, x)
    t = Tanh (bx)
    y = Mul (alpha, t)
}"""

# y (B, T, F) and lengths (B,) to (B, F): the step `length` of y with a zero step prepended
LAST = """last (y, lengths) => (h) {
    pads = Constant <value_ints = [0, 1, 0, 0, 0, 0]> ()
    steps = Pad (y, pads)
    index = Cast <to = 7> (lengths)
    axis = Constant <value_ints = [1]> ()
    place = Unsqueeze (index, axis)
    h = GatherND <batch_dims = 1> (steps, place)
}"""

# x (T, B, ...) to lengths (B,), all equal to T
STEPS = """steps (x) => (lengths) {
    shape = Shape (x)
    zero = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    T = Gather (shape, zero)
    B = Gather (shape, one)
    all = Expand (T, B)
    lengths = Cast <to = 6> (all)
}"""

# A recurrent node's final state (D, B, H), with the initial state instead of zeros in rows of no steps
FINAL_STATE = """final_state (state, initial, lengths) => (final) {
    zero = Constant <value = int32 {0}> ()
    axis = Constant <value_ints = [1]> ()
    has_steps = Greater (lengths, zero)
    rows = Unsqueeze (has_steps, axis)
    final = Where (rows, state, initial)
}"""

# x (T, B, I), W (4, I, H), R (4, P, H), b_W and b_R (4, 1, H), with gates in the order i f g o, W_hr (H, P),
# lengths (B,), h0 (1, B, P) and c0 (1, B, H) to y (T, 1, B, P) and the final h and c. Past a row's length,
# the state does not change and y is 0.
LSTM = """lstm (x, W, R, b_W, b_R, W_hr, lengths, h0, c0) => (y, h_n, c_n) {{
    zero = Constant <value = {real} {{0.0}}> ()
    axis = Constant <value_ints = [1]> ()
    four = Constant <value_ints = [1, 1, 1, 1]> ()
    rows = Unsqueeze (lengths, axis)
    x_alone = Unsqueeze (x, axis)
    Wx = MatMul (x_alone, W)
    Wx_b = Add (Wx, b_W)
    sums = Add (Wx_b, b_R)
    first = Constant <value_int = 0> ()
    step = Constant <value_int = 1> ()
    shape = Shape (x)
    T = Gather (shape, first)
    times_64 = Range (first, T, step)
    times = Cast <to = 6> (times_64)
    h_n, c_n, y = Scan <
        num_scan_inputs = 2, scan_input_directions = [{way}, {way}], scan_output_directions = [{way}],
        body = steps (h_before, c_before, sum, t) => (h, c, y_t) {{
        Rh = MatMul (h_before, R)
        gates = Add (sum, Rh)
        a_i, a_f, a_g, a_o = Split <axis = 0> (gates, four)
        i = Sigmoid (a_i)
        f = Sigmoid (a_f)
        g = Tanh (a_g)
        o = Sigmoid (a_o)
        fc = Mul (f, c_before)
        ig = Mul (i, g)
        c_t = Add (fc, ig)
        tanh_c = Tanh (c_t)
        unprojected = Mul (o, tanh_c)
        h_t = MatMul (unprojected, W_hr)
        valid = Less (t, rows)
        h = Where (valid, h_t, h_before)
        c = Where (valid, c_t, c_before)
        y_t = Where (valid, h_t, zero)
    }}> (h0, c0, sums, times)
}}"""


def function(name: str, real: str, opset: int) -> onnx.FunctionProto:
    """The function of this name for the type `real`, float or double, in the opset of its model."""
    bodies = {
        "silu": SILU, "affine": AFFINE, "scaled_tanh": SCALED_TANH, "last": LAST, "steps": STEPS,
        "final_state": FINAL_STATE,
    }  # fmt: skip
    for way, lstm in enumerate(("lstm", "lstm_reverse")):
        bodies[lstm] = LSTM.format(real=real, way=way).replace("lstm", lstm, 1)
    return onnx.parser.parse_function(f'<domain: "{DOMAIN}", opset_import: ["": {opset}]> {bodies[name]}')
