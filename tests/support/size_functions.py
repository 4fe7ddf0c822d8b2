"""Functions in TorchScript of a tensor x (batch, time, 4), whose results or demands depend on its sizes."""

import re

import numpy as np

# Expressions; a and b are random numbers from 1 to 4, i from 0 to 3, and j is greater than i.
EXPRESSIONS = """
torch.split(x, {a}, 1)[{i}]
torch.split(x, {a}, 1)[-1]
torch.split(x, [{i}, {j}], 1)[1]
torch.cat(torch.split(x, {a}, 1), 2)
torch.stack(torch.split(x, {a}, 1), 0)
torch.chunk(x, {a}, 1)[{i}]
torch.chunk(x, {a}, 1)[-1]
torch.cat(torch.chunk(x, {a}, 1), 2)
torch.tensor_split(x, {a}, 1)[{i}]
torch.tensor_split(x, [{i}, {j}], 1)[1]
torch.hsplit(x, {a})[0]
x.narrow(1, {i}, {a})
x.narrow(1, -{a}, {b})
x.select(1, {i})
x[:, {i}]
x[:, -{a}]
x[{i}]
x[:, {i}:{j}]
x[:, -{j}:]
x[:, :-{a}]
x[:, {i}::{a}]
x.view(x.size(0), -1, {a})
x.view(-1, {a}, 4)
x.reshape(x.size(0), {a}, -1)
x.reshape({a}, -1)
x.view(x.size(0), {a}, 4)
x.expand(x.size(0), {a}, -1)
x[:, :1].expand(-1, {a}, -1)
x.expand({a}, -1, -1, -1)
x.squeeze(1)
x.squeeze(0)
x.squeeze()
x.repeat(1, {a}, 1)
x.index_select(1, torch.tensor([0, {i}]))
x.gather(1, torch.full([x.size(0), 2, 4], {i}, dtype=torch.int64))
x[:, torch.tensor([{i}, {j}])]
x[:, torch.tensor([-{a}, {j}])]
x.topk({a}, 1)[0]
x.kthvalue({a}, 1)[0]
x.roll({a}, 1)
F.pad(x, (0, 0, -{a}, {i}))
F.pad(x.transpose(1, 2), ({a}, {b}), mode="reflect")
F.pad(x.transpose(1, 2), ({a}, {b}), mode="replicate")
F.pad(x.transpose(1, 2), ({a}, {b}), mode="circular")
F.avg_pool1d(x.transpose(1, 2), {a})
F.avg_pool1d(x.transpose(1, 2), {a}, {b}, 0, True)
F.max_pool1d(x.transpose(1, 2), {a}, {b})
F.max_pool1d(x.transpose(1, 2), {a}, {b}, 0, 1, True)
F.max_pool1d(x.transpose(1, 2), {a}, {b}, 0, 2)
F.conv1d(x.transpose(1, 2), torch.ones(3, 4, {a}))
F.conv1d(x.transpose(1, 2), torch.ones(3, 4, {a}), None, {b}, 0, 2)
F.adaptive_avg_pool1d(x.transpose(1, 2), {a})
F.adaptive_max_pool1d(x.transpose(1, 2), {a})
F.interpolate(x.transpose(1, 2), size={a})
F.interpolate(x.transpose(1, 2), size={a}, mode="linear")
F.glu(x, 1)
F.layer_norm(x, [4])
F.layer_norm(x, [{a}, 4])
F.instance_norm(x.transpose(1, 2))
F.normalize(x, dim=1)
x.unbind(1)[{i}]
x.unbind(0)[{i}]
x.diagonal({i}, 1, 2)
torch.cat([x, torch.zeros(2, {a}, 4)], 0)
torch.cat([x, torch.zeros({a}, 1, 4)], 1)
x + torch.ones({a}, 1)
x * torch.ones({a}, 1, 4)
x + torch.ones({a}, 1, 1, 1)
torch.where(torch.ones({a}, 4) > 0, x, 2.0)
torch.maximum(x, torch.ones({a}, 1))
x @ torch.ones({a}, 4, 2)
torch.ones(3, {a}) @ x
torch.einsum("bti,tj->bij", x, torch.ones({a}, 2))
torch.addmm(torch.ones({a}, 2), x[0], torch.ones(4, 2))
x.mean(1)
x.max(1)[0]
x.max(1)[1]
x.amax(1)
x.amin((0, 1))
x.argmax(1)
x.std(1)
x.var(1, False)
x.softmax(1)
x.log_softmax(0)
x.logsumexp(1)
x.sort(1)[0]
x.prod(1)
x.norm(2.0, 1)
x.cumsum(1)
x.cumprod(1)
x.cummax(1)[0]
x.logcumsumexp(1)
x.diff({a}, 1)
torch.tril(x, {i})
torch.triu(x.transpose(1, 2), -{a})
x.flip(1)
x.repeat_interleave({a}, 1)
torch.cross(x[:, :, :3], torch.ones({a}, 3)[None], dim=2)
torch.cosine_similarity(x, torch.ones({a}, 4), 1)
x.scatter(1, torch.full([1, 1, 4], {i}, dtype=torch.int64), 7.0)
x.index_fill(1, torch.tensor([{i}]), 3.0)
x.index_add(1, torch.tensor([{i}]), torch.ones(1, 1, 4).expand(x.size(0), 1, 4))
x.masked_fill(torch.ones({a}, 1) > 0, 3.0)
torch.eye(x.size(1))[:, :{a}]
x.movedim(1, 0)[{i}]
x.transpose(0, 1).reshape(-1, x.size(0) * {a})
torch.ones(x.size(0), {a}, 4).copy_(x)
x.clone().add_(torch.ones({a}, 4))
x.new_zeros([x.size(0), {a}, 4]) + x
torch.zeros_like(x) + torch.ones({a}, x.size(1), 1)
x.t() if x.dim() == 2 else x.mT
x.expand_as(torch.ones({a}, x.size(0), x.size(1), 4))
x.as_strided((x.size(0), {a}), (x.size(1) * 4, 1))
x.as_strided((x.size(0), x.size(1) - {a}, {b}), (x.size(1) * 4, 4, 1), {i})
(x.transpose(0, 1) * 2).as_strided((x.size(1), {a}), (4, 1))
F.unfold(x[:, None], ({a}, 2))
F.unfold(x[:, None], (1, {b}), padding=1, stride=(1, {a}))
x.view_as(torch.ones({a}, x.size(0), 4))
torch.take_along_dim(x, torch.zeros(1, {a}, 1, dtype=torch.int64), 1)
torch.broadcast_to(x, [{a}, x.size(1), 4])
torch.vstack([x, torch.ones(1, {a}, 4)])
torch.dstack([x, torch.ones({a}, 1, 1)])
torch.kron(x[0], torch.ones(1, 2))
torch.tensordot(x, torch.ones({a}, 2), [[1], [0]])
torch.addcmul(x, torch.ones({a}, 1), torch.ones(4))
torch.lerp(x, torch.ones({a}, 4), 0.3)
F.group_norm(x.transpose(1, 2), 2)
F.group_norm(x, {a})
x.swapaxes(0, 1)[:{a}].sum(0)
x.unsqueeze(1).squeeze(2)
torch.zeros([2], dtype=torch.float64) + (int(x.size(1) * 0.{a}))
torch.zeros([2], dtype=torch.float64) + (int(float(x.size(1)) * 0.{a} * {b}))
torch.zeros([2], dtype=torch.float64) + (math.floor(x.size(1) * 1.{a}))
torch.zeros([2], dtype=torch.float64) + (math.ceil(x.size(1) / 0.{a}))
torch.zeros([2], dtype=torch.float64) + (round(x.size(1) * 0.{b}))
torch.zeros([2], dtype=torch.float64) + (int(x.size(1) ** 0.5 * 1.{a}))
torch.zeros([2], dtype=torch.float64) + (int(x.size(1) / {a}))
torch.zeros([2], dtype=torch.float64) + (x.size(1) ** -{a})
torch.zeros([2], dtype=torch.float64) + ((x.size(1) - 3) ** {a})
torch.zeros([2], dtype=torch.float64) + ({a} ** (x.size(1) % 7 - 3))
x.reshape(x.size(0), int(x.size(1) ** 1), -1)
torch.zeros([2], dtype=torch.float64) + (x.size(1) // -{a})
torch.zeros([2], dtype=torch.float64) + ((x.size(1) - 7) % {a})
torch.zeros([2], dtype=torch.float64) + ((x.size(1) - 7) // {a})
torch.zeros([2], dtype=torch.float64) + (x.size(1) % -{a})
torch.zeros([2], dtype=torch.float64) + (int((x.size(1) - 7) / {a}))
torch.zeros([2], dtype=torch.float64) + (int(math.log2(x.size(1) + 1)))
torch.zeros([2], dtype=torch.float64) + (int(math.sqrt(x.size(1)) * 3))
torch.zeros([2], dtype=torch.float64) + (int(x[0, 0, 0].item() * 0.1 * 1e9))
torch.zeros([2], dtype=torch.float64) + (abs(x.size(1) - {b}))
torch.zeros([2], dtype=torch.float64) + (min(x.size(1), {a}) - max(x.size(0), {b}))
torch.zeros([2], dtype=torch.float64) + (int(x.size(1) > {a}))
torch.zeros([2], dtype=torch.float64) + (int(bool(x.size(1))))
torch.zeros([2], dtype=torch.float64) + (float(x.size(1)) / 3.0)
torch.zeros([2], dtype=torch.float64) + (x.size(1) / {a})
torch.zeros([2], dtype=torch.float64) + (-x.size(1) // {a})
torch.zeros([2], dtype=torch.float64) + (int(0.1 * x.size(1) / 0.1))
torch.zeros([2], dtype=torch.float64) + (float(x.size(1)) // 0.{a})
torch.zeros([2], dtype=torch.float64) + (float(x.size(1)) % 0.{a})
torch.zeros([2], dtype=torch.float64) + (int(torch.ceil(torch.tensor(x.size(1)) / {a})))
torch.zeros([2], dtype=torch.float64) + ((x.size(1) + {a} - 1) // {a} * {a})
torch.zeros([2], dtype=torch.float64) + (x.size(1) & {a})
torch.zeros([2], dtype=torch.float64) + (x.size(1) >> 1)
torch.zeros([2], dtype=torch.float64) + (x.size(1) ^ {a})
torch.zeros([2], dtype=torch.float64) + (int(x.sum(dtype=torch.float64) * 0.7))
x[:, :(int(x.size(1) * 0.{a})) % 5]
x[:, :(math.floor(x.size(1) * 1.{a})) % 5]
x[:, :(math.ceil(x.size(1) / 0.{a})) % 5]
x[:, :(round(x.size(1) * 0.{b})) % 5]
x[:, :(int(x.size(1) ** 0.5 * 1.{a})) % 5]
x[:, :(x.size(1) // -{a}) % 5]
x[:, :((x.size(1) - 7) % {a}) % 5]
x[:, :(x.size(1) % -{a}) % 5]
x[:, :(int(math.log2(x.size(1) + 1))) % 5]
x[:, :(int(math.sqrt(x.size(1)) * 3)) % 5]
x[:, :(int(x[0, 0, 0].item() * 0.1 * 1e9)) % 5]
x[:, :(abs(x.size(1) - {b})) % 5]
x[:, :(min(x.size(1), {a}) - max(x.size(0), {b})) % 5]
x[:, :(int(x.size(1) > {a})) % 5]
x[:, :(int(bool(x.size(1)))) % 5]
x[:, :(int(0.1 * x.size(1) / 0.1)) % 5]
x[:, :(x.size(1) & {a}) % 5]
x[:, :(x.size(1) >> 1) % 5]
x[:, :(x.size(1) ^ {a}) % 5]
x[:, :(int(x.sum(dtype=torch.float64) * 0.7)) % 5]
torch.bmm(x, torch.ones({a}, 4, 2))
torch.bmm(torch.ones({a}, 2, x.size(1)), x)
torch.baddbmm(torch.ones({a}, 1, 2), x, torch.ones(x.size(0), 4, 2))
torch.baddbmm(torch.ones({a}, 2), x, torch.ones({b}, 4, 2))
torch.addbmm(torch.ones({a}, 2), x, torch.ones(x.size(0), 4, 2))
torch.addmv(torch.ones({a} + 1), x[0], torch.ones(4))
torch.addr(torch.ones({a}, {b}), x[:, 0, 0], x[0, :, 0])
torch.arange({a}, x.size(1))
torch.arange({a}, x.size(1), {b})
torch.arange(x.size(1), {a}, -{b})
torch.arange(x.size(0), x.size(1) * 0.5, 0.{a})
torch.range({a}, x.size(1))
x.max(1)[0] - x.min(1)[0]
x.max()
x.amin(1)
x.long().amax(0)
x.argmin(1)
x.median(1)[0]
x[:, {i}:].median()
x[:, {i}:].nanmedian()
x.aminmax(dim=1)[1]
x[:, {i}:].amax(1)
x[:, {i}:].argmax(1)
x[:, {i}:].median(1)[0]
x.mode(1)[0]
x.argmin()
x.quantile(0.{a}, 1)
x.norm(float("inf"), 1)
torch.linalg.vector_norm(x, -{a}.0, 1)
F.adaptive_max_pool1d(x[:, {i}:].transpose(1, 2), 1)
F.adaptive_avg_pool1d(x.transpose(1, 2), 1)
F.max_pool1d(x.transpose(1, 2), 3, {a}, 1)
x.unfold(1, {a}, {b})
torch.cross(x, x, dim=1)
torch.cross(x[:, :3], torch.ones(1, {a}, 4), dim=1)
torch.hann_window({a})
torch.nn.functional.one_hot((x[:, 0, 0] * 1.5).long(), {a}).float()
torch.nn.functional.one_hot((x[:, 0, 0] * 1.5).long()).float()
torch.nn.functional.embedding((x[:, 0, 0] * 1.5).long(), torch.ones({a}, 4).cumsum(0))
torch.nn.functional.nll_loss(x[:, 0], (x[:{a}, 0, 0] * 1.5).long())
torch._grouped_mm(x, torch.ones(x.size(0), 4, 4).cumsum(1))
torch.index_select(x, 1, (x[:, 0, 0] * 1.5).long())
x[(x[:, 0, 0] * 1.5).long()]
x[:, (x[:, 0, 0] * 1.5).long()]
x.gather(1, (x[:, :1] * 1.5).long())
x.scatter(1, (x[:, :1] * 1.5).long(), 7.0)
x.index_add(1, (x[0, 0] * 1.5).long(), torch.ones(1, 4, 4).expand(x.size(0), 4, 4))
x.index_copy(1, (x[0, 0, :{a}] * 1.5).long(), torch.ones(x.size(0), {a}, 4))
x.index_fill(1, (x[0, 0] * 1.5).long(), 3.0)
torch.take_along_dim(x, (x[:, :1] * 1.5).long(), 1)
torch.repeat_interleave(x, (x[:, 0, 0] * 1.5).long(), 0)
torch.repeat_interleave(x, torch.tensor([{i}, {a}]), 0)
torch.repeat_interleave(x, torch.tensor([{a}]), 1)
torch.repeat_interleave(x, torch.tensor({i}), 1)
torch.repeat_interleave(x, torch.tensor({a}))
torch.repeat_interleave(x, (x[0, 0, 0] * 1.5).long(), 0)
torch.bincount((x[:, 0, 0] * 1.5).long()).float()
x.narrow(1, int(x[0, 0, 0] * 1.5), {a})
x.narrow(0, -{a}, int(x[0, 0, 0] * 1.5))
x[x[:, 0, 0] > 0]
x[torch.ones({a}) > 0]
x[torch.ones(x.size(0), {a}) > 0]
x[:, torch.ones({a}) > 0]
x.index_put([torch.ones({a}) > 0], torch.tensor(5.0))
x.masked_select(torch.ones({a}, 4) > 0)
""".strip().splitlines()
# Statements, separated by bars.
BODIES = """
a, b = torch.split(x, {a}, 1)|return a
a, b, c = x.chunk(3, 1)|return b
a, b = x.chunk(2, 1)|return a - b
a, b = x.unbind(1)|return a
n = torch.arange({a}).int() + 1|w = torch.ones({a}, 4, 8).cumsum(0)|return torch._grouped_mm(x[0, :{a}], w, n)
n = torch.arange(len(x)).int() + 1|w = x.cumsum(0)|return torch._grouped_mm(w, x[0, :len(x)].t(), n)
y = x[:, 0]|for i in range({a}):|    y = y + x[:, i]|return y
y = x.clone()|y[:, {i}] = 5.0|return y
y = x.clone()|y[:, {i}:{j}] = torch.ones({a}, 4)|return y
i = 0|y = x[:, 0]|while i < x.size(1) - {i}:|    y = y + x[:, i]|    i += {a}|return y
l = [x[:, 0]]|for t in range(x.size(1)):|    l.append(x[:, t] + l[-1])|return torch.stack(l[{i}:], 1)
l: List[Tensor] = []|for t in range(x.size(1)):|    l.append(x[:, t])|return torch.stack(l, 1)[:, {i}]
l: List[Tensor] = []|for t in range(x.size(1)):|    l.append(x[:, t])|return l[{i}]
l: List[Tensor] = []|for t in range(x.size(1)):|    l.append(x[:, t])|return l[-{a}]
y = x[:, 0]|for t in range({i}, x.size(1), {a}):|    y = y - x[:, t]|return y
y = x[:, 0]|for t in range(x.size(1) - 1, -1, -{a}):|    y = y * 0.5 + x[:, t]|return y
if x.size(1) > {a}:|    return x[:, {a}]|return x.sum(1)
assert x.size(1) > {a}|return x[:, {i}]
y = x[:, -1]|return y
return x[:, {a}:] - x[:, :-{a}]
return x[:, ::2] + x[:, 1::2]
return x[:, :x.size(0)].sum() + x.size(0) // {a} % {b}
return x.sum() + (x.size(1) - 7) // {a} + (x.size(1) - 7) % {b}
return x.sum() + int((x.size(1) - 7) / {a}) + float(x.size(1)) / {b}
i = x.size(1) // 2|return x[:, i] + x[:, i - {a}]
return x.view(x.size(0), x.size(1) // {a}, {a} * 4)
return x.view(x.size(0), x.size(1) // {a} * {a}, 4)
l: List[float] = []|for t in range(x.size(1)):|    l.append(float(x[0, t, {i}]))|return torch.tensor(l)
l: List[int] = []|for t in range(x.size(1)):|    l.append(t * {a})|return torch.tensor(l, dtype=torch.float64)
l = [x[:, 0], x[:, 1]]|for t in range(2, x.size(1)):|    l.append(l.pop(0) + x[:, t])|return torch.stack(l, 1)
l = [1, {a}, {b}]|a = l.pop({i} % 3)|return x * a + len(l) + l.pop()
""".strip().splitlines()


def code(rng: np.random.Generator) -> str:
    """Return the code of a random function of x."""
    kinds = [*(f"return {expression}" for expression in EXPRESSIONS), *BODIES]
    a, b = rng.integers(1, 5, 2)
    i = int(rng.integers(0, 4))
    body = kinds[rng.integers(len(kinds))].format(a=a, b=b, i=i, j=i + int(rng.integers(1, 5)))
    lines = re.sub(r"\bF\.", "torch.nn.functional.", body).split("|")
    return "def forward(self, x):\n" + "".join(f"    {line}\n" for line in lines)


def shape(rng: np.random.Generator) -> tuple[int, int, int]:
    """Return random sizes, often small, also without elements."""
    steps = rng.choice([0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 37, 90])
    return int(rng.choice([0, 1, 1, 2, 2, 3, 3, 4, 4])), int(steps), 4
