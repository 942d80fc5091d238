// philox.h -- Philox4x32-10 for the kernels that draw: philox.cu, which says what it is, and dropouts.cu.
#ifndef PHILOX_H
#define PHILOX_H
struct Words { uint32_t w[4]; };

DEVICE Words philox(uint64_t low, uint64_t high, uint32_t k0, uint32_t k1) {
    uint32_t c0 = (uint32_t)low, c1 = (uint32_t)(low >> 32);
    uint32_t c2 = (uint32_t)high, c3 = (uint32_t)(high >> 32);
    UNROLL
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// Block b of a draw that starts at (low, high).
DEVICE Words block_words(uint64_t low, uint64_t high, long long b, uint32_t k0, uint32_t k1) {
    const uint64_t at = low + (uint64_t)b;
    return philox(at, high + (at < low), k0, k1);
}
#endif
