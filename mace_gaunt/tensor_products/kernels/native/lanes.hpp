// Channels are computed a register at a time.
#pragma once

#include <cstdint>
#include <cstring>

// A block of channels that is computed at once, as wide as a register (wider ones are compiled badly), and a single
// channel.
#if defined(__AVX512F__)
#define REGISTER 64
#elif defined(__AVX__)
#define REGISTER 32
#else
#define REGISTER 16
#endif
typedef float Floats __attribute__((vector_size(REGISTER)));
typedef double Doubles __attribute__((vector_size(REGISTER)));

template <class T> struct Block {};
template <> struct Block<float> {
    using type = Floats;
    static constexpr int width = REGISTER / sizeof(float);
};
template <> struct Block<double> {
    using type = Doubles;
    static constexpr int width = REGISTER / sizeof(double);
};
template <class T> struct Single {
    using type = T;
    static constexpr int width = 1;
};

// Rows need not be aligned to whole blocks.
template <class V, class T> inline V load(const T *from) {
    V v;
    std::memcpy(&v, from, sizeof(V));
    return v;
}
template <class V, class T> inline void store(T *to, const V &v) { std::memcpy(to, &v, sizeof(V)); }

template <class T> inline T sum_lanes(const T *lanes) {
    constexpr int width = Block<T>::width;
    if constexpr (width >= 4) {
        typedef T Half __attribute__((vector_size(sizeof(T) * (width >= 4 ? width / 2 : 1))));
        const Half half = load<Half>(lanes) + load<Half>(lanes + width / 2);
        T total = half[0];
        for (int i = 1; i < width / 2; ++i) total += half[i];
        return total;
    }
    return lanes[0] + lanes[1];
}

// Calls body(kind, first channel) block by block, and for single channels at the end.
template <class T, class Body> inline void for_channels(int64_t channels, const Body &body) {
    int64_t c = 0;
    for (; c + Block<T>::width <= channels; c += Block<T>::width) body(Block<T>(), c);
    for (; c < channels; ++c) body(Single<T>(), c);
}
