// Node products, node by node and a register of channels at a time, with two derivatives.
//
// Both kinds take features a [n_nodes, num_in, channels] and weights w [num_weights, n_nodes, channels], and give
// b [n_nodes, num_out, channels], linear in w:
//
//     polynomial   b[out(r)] += w[weight(r)] * sum over terms t of r of  value[t] * product of components of a
//     powers       b[l m] = sum over orders n of  w[n, l] * sum over points p of  analysis[n, l m, p] * s[p]^n,
//                  with s = synthesis a
//
// The second derivative is the first one of dual numbers u + v eps with eps^2 = 0: the gradient of
// (da . a_ + dw . w_) is the eps part of the gradient at a + a_ eps, w + w_ eps.

#include <type_traits>
#include <vector>

#include "lanes.hpp"

namespace {

template <class T> struct Polynomial {
    int64_t num_in, num_out, num_weights, num_products, num_rows;
    const int32_t *prefix, *last;  // of each product: an earlier product (-1 for none) times a component
    const int32_t *first_term;     // of each row, and their total
    const int32_t *product;        // of each term
    const T *value;                // of each term
    const int32_t *out, *weight;   // of each row
};

template <class T> struct Powers {
    int64_t num_in, num_out, num_weights, num_points, correlation;
    const T *synthesis;     // [num_points, num_in]
    const T *analysis;      // [num_points, correlation, num_out]
    const int32_t *weight;  // of each (order, component), [correlation, num_out]
};

template <class V> struct Dual {
    V real, eps;
    Dual operator+(const Dual &o) const { return {real + o.real, eps + o.eps}; }
    Dual operator*(const Dual &o) const { return {real * o.real, real * o.eps + eps * o.real}; }
    void operator+=(const Dual &o) { real += o.real, eps += o.eps; }
};
template <class V, class T> inline V times(T factor, const V &v) { return factor * v; }
template <class V, class T> inline Dual<V> times(T factor, const Dual<V> &v) { return {factor * v.real, factor * v.eps}; }

// Memory of one thread.
template <class S> struct Scratch {
    std::vector<char> memory;
    S *take(int64_t count) {
        memory.resize((count + 1) * sizeof(S) + 64);
        const auto address = reinterpret_cast<uintptr_t>(memory.data());
        return reinterpret_cast<S *>((address + 63) / 64 * 64);
    }
};

// b for one node; `gradient` is b's cotangent, and the gradients of a and w are added up, if it is not null.
template <class T, class S>
void evaluate(const Polynomial<T> &plan, Scratch<S> &scratch, const S *a, const S *w, S *b, const S *gradient, S *a_to,
              S *w_to) {
    S *products = scratch.take(2 * plan.num_products), *gradients = products + plan.num_products;
    for (int64_t k = 0; k < plan.num_products; ++k) {
        const S factor = a[plan.last[k]];
        products[k] = plan.prefix[k] < 0 ? factor : products[plan.prefix[k]] * factor;
        gradients[k] = S{};
    }
    for (int64_t r = 0; r < plan.num_rows; ++r) {
        S sum = S{};
        for (int64_t t = plan.first_term[r]; t < plan.first_term[r + 1]; ++t)
            sum += times(plan.value[t], products[plan.product[t]]);
        b[plan.out[r]] += w[plan.weight[r]] * sum;
        if (gradient == nullptr) continue;
        w_to[plan.weight[r]] += gradient[plan.out[r]] * sum;
        const S back = gradient[plan.out[r]] * w[plan.weight[r]];
        for (int64_t t = plan.first_term[r]; t < plan.first_term[r + 1]; ++t)
            gradients[plan.product[t]] += times(plan.value[t], back);
    }
    if (gradient == nullptr) return;
    for (int64_t k = plan.num_products - 1; k >= 0; --k) {
        const int64_t prefix = plan.prefix[k], last = plan.last[k];
        if (prefix < 0) {
            a_to[last] += gradients[k];
        } else {
            a_to[last] += gradients[k] * products[prefix];
            gradients[prefix] += gradients[k] * a[last];
        }
    }
}

template <class T, class S>
void evaluate(const Powers<T> &plan, Scratch<S> &scratch, const S *a, const S *w, S *b, const S *gradient, S *a_to,
              S *w_to) {
    // Analysed powers without weights, and cotangents with weights: the weights stay out of the loop over points.
    const int64_t size = plan.correlation * plan.num_out;
    S *analysed = scratch.take(2 * size), *weighted = analysed + size;
    for (int64_t i = 0; i < size; ++i) {
        analysed[i] = S{};
        if (gradient != nullptr) weighted[i] = gradient[i % plan.num_out] * w[plan.weight[i]];
    }
    for (int64_t p = 0; p < plan.num_points; ++p) {
        const T *synthesis = plan.synthesis + p * plan.num_in;
        S signal = times(synthesis[0], a[0]);
        for (int64_t k = 1; k < plan.num_in; ++k) signal += times(synthesis[k], a[k]);
        S power = signal, previous = S{}, back = S{};
        for (int64_t n = 0; n < plan.correlation; ++n) {
            const T *analysis = plan.analysis + (p * plan.correlation + n) * plan.num_out;
            S *sums = analysed + n * plan.num_out;
            for (int64_t m = 0; m < plan.num_out; ++m) sums[m] += times(analysis[m], power);
            if (gradient != nullptr) {
                const S *from = weighted + n * plan.num_out;
                S slope = times(analysis[0], from[0]);
                for (int64_t m = 1; m < plan.num_out; ++m) slope += times(analysis[m], from[m]);
                // d s^n = n s^(n-1) ds
                back += n == 0 ? slope : times(static_cast<T>(n + 1), slope * previous);
            }
            previous = power;
            power = power * signal;
        }
        if (gradient == nullptr) continue;
        for (int64_t k = 0; k < plan.num_in; ++k) a_to[k] += times(synthesis[k], back);
    }
    for (int64_t i = 0; i < size; ++i) {
        b[i % plan.num_out] += w[plan.weight[i]] * analysed[i];
        if (gradient != nullptr) w_to[plan.weight[i]] += gradient[i % plan.num_out] * analysed[i];
    }
}

template <class V, class T> inline void read(V *to, const T *real, const T *, int64_t rows, int64_t stride) {
    for (int64_t i = 0; i < rows; ++i) to[i] = load<V>(real + i * stride);
}
template <class V, class T> inline void read(Dual<V> *to, const T *real, const T *eps, int64_t rows, int64_t stride) {
    for (int64_t i = 0; i < rows; ++i) {
        to[i].real = load<V>(real + i * stride);
        to[i].eps = eps == nullptr ? V{} : load<V>(eps + i * stride);
    }
}
template <class V, class T> inline void write(T *to, const V *from, int64_t rows, int64_t stride) {
    for (int64_t i = 0; i < rows; ++i) store<V>(to + i * stride, from[i]);
}
template <class V, class T> inline void write(T *to, const Dual<V> *from, int64_t rows, int64_t stride) {
    for (int64_t i = 0; i < rows; ++i) store<V>(to + i * stride, from[i].eps);
}

// Inputs a, w (and their eps parts, and b's cotangent, where given) to the result b (or its eps part) and gradients.
template <class T> struct Arrays {
    const T *a, *w, *g, *a_eps, *w_eps;
    T *b, *a_grad, *w_grad;
};

template <class T, bool DUAL, class Plan>
void for_nodes(const Plan &plan, int64_t n_nodes, int64_t channels, int64_t threads, const Arrays<T> &of) {
    const int64_t in = plan.num_in, out = plan.num_out, weights = plan.num_weights, stride = n_nodes * channels;
#pragma omp parallel num_threads(threads)
    {
        const auto block = [&](auto kind, auto &scratch, auto &rows, int64_t n, int64_t c) {
            using V = typename decltype(kind)::type;
            using S = std::conditional_t<DUAL, Dual<V>, V>;
            S *a = rows.take(2 * (in + out + weights)), *w = a + in, *b = w + weights, *g = b + out, *a_to = g + out,
              *w_to = a_to + in;
            const int64_t at_a = n * in * channels + c, at_b = n * out * channels + c, at_w = n * channels + c;
            read(a, of.a + at_a, of.a_eps == nullptr ? nullptr : of.a_eps + at_a, in, channels);
            read(w, of.w + at_w, of.w_eps == nullptr ? nullptr : of.w_eps + at_w, weights, stride);
            for (int64_t i = 0; i < out; ++i) b[i] = S{};
            if (of.g != nullptr) {
                read(g, of.g + at_b, static_cast<const T *>(nullptr), out, channels);
                for (int64_t i = 0; i < in; ++i) a_to[i] = S{};
                for (int64_t i = 0; i < weights; ++i) w_to[i] = S{};
            }
            evaluate<T, S>(plan, scratch, a, w, b, of.g == nullptr ? nullptr : g, a_to, w_to);
            if (of.b != nullptr) write(of.b + at_b, b, out, channels);
            if (of.g == nullptr) return;
            write(of.a_grad + at_a, a_to, in, channels);
            write(of.w_grad + at_w, w_to, weights, stride);
        };
        using Wide = std::conditional_t<DUAL, Dual<typename Block<T>::type>, typename Block<T>::type>;
        using One = std::conditional_t<DUAL, Dual<T>, T>;
        Scratch<Wide> scratch, rows;
        Scratch<One> single_scratch, single_rows;
#pragma omp for schedule(dynamic, 4)
        for (int64_t n = 0; n < n_nodes; ++n) {
            int64_t c = 0;
            for (; c + Block<T>::width <= channels; c += Block<T>::width) block(Block<T>(), scratch, rows, n, c);
            for (; c < channels; ++c) block(Single<T>(), single_scratch, single_rows, n, c);
        }
    }
}

}  // namespace

#define EXPORT(T, NAME, PLAN, KIND)                                                                                    \
    extern "C" void KIND##_forward_##NAME(const PLAN *plan, int64_t n_nodes, int64_t channels, int64_t threads,        \
                                          const T *a, const T *w, T *b) {                                              \
        for_nodes<T, false>(*plan, n_nodes, channels, threads,                                                         \
                            Arrays<T>{a, w, nullptr, nullptr, nullptr, b, nullptr, nullptr});                          \
    }                                                                                                                  \
    extern "C" void KIND##_backward_##NAME(const PLAN *plan, int64_t n_nodes, int64_t channels, int64_t threads,       \
                                           const T *a, const T *w, const T *g, T *a_grad, T *w_grad) {                 \
        for_nodes<T, false>(*plan, n_nodes, channels, threads,                                                         \
                            Arrays<T>{a, w, g, nullptr, nullptr, nullptr, a_grad, w_grad});                            \
    }                                                                                                                  \
    extern "C" void KIND##_double_backward_##NAME(const PLAN *plan, int64_t n_nodes, int64_t channels,                 \
                                                  int64_t threads, const T *a, const T *w, const T *g,                 \
                                                  const T *a_eps, const T *w_eps, T *a_grad, T *w_grad, T *g_grad) {   \
        for_nodes<T, true>(*plan, n_nodes, channels, threads, Arrays<T>{a, w, g, a_eps, w_eps, g_grad, a_grad, w_grad}); \
    }

EXPORT(float, float32, Polynomial<float>, polynomial)
EXPORT(double, float64, Polynomial<double>, polynomial)
EXPORT(float, float32, Powers<float>, powers)
EXPORT(double, float64, Powers<double>, powers)
