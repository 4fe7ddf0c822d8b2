// The random numbers of numpy.random.default_rng(seed): PCG64 (O'Neill 2014), whose state comes from a SeedSequence.

const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;
const bits = BigInt.asUintN;

/** 128 bits for the state and 128 bits for the increment, from a seed of 32 bits. */
function seeded(seed) {
  let factor = 0x43b0d7e5, next = 0x8b51f9dd;
  const folded = (value) => value ^ (value >>> 16);
  const hashed = (value) => {
    const mixed = value ^ factor;
    factor = Math.imul(factor, 0x931e8875);
    return folded(Math.imul(mixed, factor));
  };
  const pool = [seed, 0, 0, 0].map(hashed);
  for (let from = 0; from < 4; from++)
    for (let to = 0; to < 4; to++)
      if (from !== to) pool[to] = folded(Math.imul(0xca01f9dd, pool[to]) - Math.imul(0x4973f715, hashed(pool[from])));
  const words = Array.from({ length: 8 }, (_, n) => {
    const mixed = pool[n % 4] ^ next;
    next = Math.imul(next, 0x58f38ded);
    return bits(32, BigInt(folded(Math.imul(mixed, next))));
  });
  const wide = (n) => (words[n + 1] << 96n) | (words[n] << 64n) | (words[n + 3] << 32n) | words[n + 2];
  return [wide(0), wide(4)];
}

/** A function that returns random numbers from [0, 1). */
export function generator(seed) {
  const [initial, sequence] = seeded(seed), increment = bits(128, (sequence << 1n) | 1n);
  let state = bits(128, (increment + initial) * MULTIPLIER + increment);
  return () => {
    state = bits(128, state * MULTIPLIER + increment);
    const turned = (state >> 64n) ^ bits(64, state), turns = state >> 122n;
    const output = bits(64, (turned >> turns) | (turned << (64n - turns)));
    return Number(output >> 11n) / 2 ** 53;
  };
}
