// Edge products as one loop over the edges, with two derivatives; nothing of size edges x rows x channels is stored.
//
// Every kernel is one multilinear form of an edge e with sender s and receiver r, channel by channel,
//
//     T = sum over rows d of  g[r, d] * z[*, z(d)] * sum over x in fan(d) of  coef[e, d, x] * x[*, x]
//
// One of the operands x and z belongs to the edge (its weights), the other to the
// sender (its features); g is the result's cotangent. Each derivative leaves one operand open:
//
//     forward          the result                          dT/dg
//     backward         its gradient                        dT/dcoef, dT/dx, dT/dz
//     double_backward  the gradient of (dT/dcoef, dT/dx, dT/dz) . (coef_, x_, z_)  with respect to coef, x, z and g
//
// Sums into a node are taken by one thread that visits the node's edges in their order: no atomics, and the same
// result at any number of threads.

#include <type_traits>
#include <vector>

#include "lanes.hpp"

namespace {

// The rows are visited fan by fan: a fan is the range of x that all rows of a group sum over.
struct Plan {
    int64_t rows, num_x, num_z, num_terms, num_fans;
    const int32_t *first_x, *last_x;  // of each fan
    const int32_t *first_visit;       // of each fan, and their total
    const int32_t *row, *z_row;       // of each visit
    int64_t x_of_edge;                // whether x belongs to the edge, and z to the sender
};

struct Graph {
    int64_t n_nodes, n_edges, channels;
    const int64_t *sender, *receiver;
    int64_t threads;
};

// Whether an edge ends at a node that is not there.
bool is_broken(const Graph &graph) {
    for (int64_t e = 0; e < graph.n_edges; ++e) {
        if (graph.sender[e] < 0 || graph.sender[e] >= graph.n_nodes) return true;
        if (graph.receiver[e] < 0 || graph.receiver[e] >= graph.n_nodes) return true;
    }
    return false;
}

// Edges grouped by one of their ends, in their order.
struct Groups {
    std::vector<int64_t> begin, edges;
    Groups(const int64_t *node, int64_t n_nodes, int64_t n_edges) : begin(n_nodes + 1, 0), edges(n_edges) {
        for (int64_t e = 0; e < n_edges; ++e) ++begin[node[e] + 1];
        for (int64_t n = 0; n < n_nodes; ++n) begin[n + 1] += begin[n];
        std::vector<int64_t> next(begin.begin(), begin.end() - 1);
        for (int64_t e = 0; e < n_edges; ++e) edges[next[node[e]]++] = e;
    }
};

// Where the operands of an edge lie.
template <class T> struct Operands {
    const T *x, *z;
    Operands(const Plan &plan, const Graph &graph, const T *x_all, const T *z_all, int64_t e) {
        const int64_t s = graph.sender[e];
        x = x_all + (plan.x_of_edge ? e : s) * plan.num_x * graph.channels;
        z = z_all + (plan.x_of_edge ? s : e) * plan.num_z * graph.channels;
    }
};

// The four loops over the rows of one fan, for one edge and one block of channels. FAN is the length of the fan: x and
// its gradient stay in registers. Fans of other lengths than those listed at the end are cut into shorter ones.

struct Fan {
    int64_t channels, begin, end;
    const int32_t *row, *z_row;
};

template <int FAN, class V, class T>
inline void add_result(const Fan &fan, const T *coef, const T *x, const T *z, T *result) {
    V kept[FAN];
    for (int i = 0; i < FAN; ++i) kept[i] = load<V>(x + i * fan.channels);
    for (int64_t visit = fan.begin; visit < fan.end; ++visit, coef += FAN) {
        V inner = coef[0] * kept[0];
        for (int i = 1; i < FAN; ++i) inner += coef[i] * kept[i];
        T *to = result + fan.row[visit] * fan.channels;
        store<V>(to, load<V>(to) + inner * load<V>(z + fan.z_row[visit] * fan.channels));
    }
}

template <int FAN, class V, class T>
inline void add_gradients(const Fan &fan, const T *coef, const T *x, const T *z, const T *g, T *sums, T *x_to, T *z_to) {
    constexpr int width = Block<T>::width;
    V kept[FAN], gathered[FAN];
    for (int i = 0; i < FAN; ++i) kept[i] = load<V>(x + i * fan.channels), gathered[i] = load<V>(x_to + i * fan.channels);
    for (int64_t visit = fan.begin; visit < fan.end; ++visit, coef += FAN, sums += FAN * width) {
        const int64_t at_z = fan.z_row[visit] * fan.channels;
        const V cotangent = load<V>(g + fan.row[visit] * fan.channels), outer = cotangent * load<V>(z + at_z);
        V inner = coef[0] * kept[0];
        for (int i = 1; i < FAN; ++i) inner += coef[i] * kept[i];
        for (int i = 0; i < FAN; ++i) {
            gathered[i] += coef[i] * outer;
            store<V>(sums + i * width, load<V>(sums + i * width) + kept[i] * outer);
        }
        store<V>(z_to + at_z, load<V>(z_to + at_z) + cotangent * inner);
    }
    for (int i = 0; i < FAN; ++i) store<V>(x_to + i * fan.channels, gathered[i]);
}

template <int FAN, class V, class T>
inline void add_second_result(const Fan &fan, const T *coef, const T *x, const T *z, const T *coef_, const T *x_,
                              const T *z_, T *result) {
    V kept[FAN], kept_[FAN];
    for (int i = 0; i < FAN; ++i) kept[i] = load<V>(x + i * fan.channels), kept_[i] = load<V>(x_ + i * fan.channels);
    for (int64_t visit = fan.begin; visit < fan.end; ++visit, coef += FAN, coef_ += FAN) {
        V inner = coef[0] * kept[0], inner_ = coef_[0] * kept[0] + coef[0] * kept_[0];
        for (int i = 1; i < FAN; ++i) {
            inner += coef[i] * kept[i];
            inner_ += coef_[i] * kept[i] + coef[i] * kept_[i];
        }
        const int64_t at_z = fan.z_row[visit] * fan.channels;
        T *to = result + fan.row[visit] * fan.channels;
        store<V>(to, load<V>(to) + inner_ * load<V>(z + at_z) + inner * load<V>(z_ + at_z));
    }
}

template <int FAN, class V, class T>
inline void add_second_gradients(const Fan &fan, const T *coef, const T *x, const T *z, const T *g, const T *coef_,
                                 const T *x_, const T *z_, T *sums, T *x_to, T *z_to) {
    constexpr int width = Block<T>::width;
    V kept[FAN], kept_[FAN], gathered[FAN];
    for (int i = 0; i < FAN; ++i) {
        kept[i] = load<V>(x + i * fan.channels), kept_[i] = load<V>(x_ + i * fan.channels);
        gathered[i] = load<V>(x_to + i * fan.channels);
    }
    for (int64_t visit = fan.begin; visit < fan.end; ++visit, coef += FAN, coef_ += FAN, sums += FAN * width) {
        const int64_t at_z = fan.z_row[visit] * fan.channels;
        const V cotangent = load<V>(g + fan.row[visit] * fan.channels);
        const V outer = cotangent * load<V>(z + at_z), outer_ = cotangent * load<V>(z_ + at_z);
        V inner_ = coef_[0] * kept[0] + coef[0] * kept_[0];
        for (int i = 1; i < FAN; ++i) inner_ += coef_[i] * kept[i] + coef[i] * kept_[i];
        for (int i = 0; i < FAN; ++i) {
            gathered[i] += coef_[i] * outer + coef[i] * outer_;
            store<V>(sums + i * width, load<V>(sums + i * width) + kept_[i] * outer + kept[i] * outer_);
        }
        store<V>(z_to + at_z, load<V>(z_to + at_z) + cotangent * inner_);
    }
    for (int i = 0; i < FAN; ++i) store<V>(x_to + i * fan.channels, gathered[i]);
}

// Calls body(length of the fan as a type, fan, its first coefficient, where its x begins) for every fan.
template <class Body> inline void for_fans(const Plan &plan, int64_t channels, const Body &body) {
    int64_t term = 0;
    for (int64_t k = 0; k < plan.num_fans; ++k) {
        const Fan fan{channels, plan.first_visit[k], plan.first_visit[k + 1], plan.row, plan.z_row};
        const int64_t length = plan.last_x[k] - plan.first_x[k], at_x = plan.first_x[k] * channels;
        switch (length) {
            case 1: body(std::integral_constant<int, 1>(), fan, term, at_x); break;
            case 2: body(std::integral_constant<int, 2>(), fan, term, at_x); break;
            case 3: body(std::integral_constant<int, 3>(), fan, term, at_x); break;
            case 4: body(std::integral_constant<int, 4>(), fan, term, at_x); break;
            case 5: body(std::integral_constant<int, 5>(), fan, term, at_x); break;
            case 6: body(std::integral_constant<int, 6>(), fan, term, at_x); break;
            case 7: body(std::integral_constant<int, 7>(), fan, term, at_x); break;
        }
        term += length * (fan.end - fan.begin);
    }
}

// Calls body(edge, where the receiver's rows of the result begin) for all edges, a receiver at a time.
template <class T, class Body> void for_receivers(const Plan &plan, const Graph &graph, T *out, const Body &body) {
    const int64_t size = plan.rows * graph.channels;
    const Groups groups(graph.receiver, graph.n_nodes, graph.n_edges);
#pragma omp parallel for schedule(dynamic, 4) num_threads(graph.threads)
    for (int64_t n = 0; n < graph.n_nodes; ++n) {
        std::memset(out + n * size, 0, sizeof(T) * size);
        for (int64_t k = groups.begin[n]; k < groups.begin[n + 1]; ++k) body(groups.edges[k], out + n * size);
    }
}

// Calls body(edge, sums of the coefficients' gradients, gradient of x, gradient of z) for all edges, a sender at a time.
template <class T, class Body>
void for_senders(const Plan &plan, const Graph &graph, T *coef_grad, T *x_grad, T *z_grad, const Body &body) {
    const int64_t size_x = plan.num_x * graph.channels, size_z = plan.num_z * graph.channels;
    const int64_t of_sender = plan.x_of_edge ? size_z : size_x, of_edge = plan.x_of_edge ? size_x : size_z;
    T *sender_grad = plan.x_of_edge ? z_grad : x_grad, *edge_grad = plan.x_of_edge ? x_grad : z_grad;
    const Groups groups(graph.sender, graph.n_nodes, graph.n_edges);
#pragma omp parallel num_threads(graph.threads)
    {
        constexpr int width = Block<T>::width;
        std::vector<T> sums(plan.num_terms * width);
#pragma omp for schedule(dynamic, 4)
        for (int64_t n = 0; n < graph.n_nodes; ++n) {
            T *to_sender = sender_grad + n * of_sender;
            std::memset(to_sender, 0, sizeof(T) * of_sender);
            for (int64_t k = groups.begin[n]; k < groups.begin[n + 1]; ++k) {
                const int64_t e = groups.edges[k];
                T *to_edge = edge_grad + e * of_edge;
                std::memset(to_edge, 0, sizeof(T) * of_edge);
                std::memset(sums.data(), 0, sizeof(T) * sums.size());
                body(e, sums.data(), plan.x_of_edge ? to_edge : to_sender, plan.x_of_edge ? to_sender : to_edge);
                for (int64_t t = 0; t < plan.num_terms; ++t)
                    coef_grad[e * plan.num_terms + t] = sum_lanes<T>(&sums[t * width]);
            }
        }
    }
}

template <class T> void forward(const Plan &plan, const Graph &graph, const T *coef, const T *x, const T *z, T *out) {
    const int64_t channels = graph.channels;
    for_receivers(plan, graph, out, [&](int64_t e, T *result) {
        const Operands<T> of(plan, graph, x, z, e);
        const T *coef_e = coef + e * plan.num_terms;
        for_fans(plan, channels, [&](auto length, const Fan &fan, int64_t t, int64_t at_x) {
            for_channels<T>(channels, [&](auto kind, int64_t c) {
                using V = typename decltype(kind)::type;
                add_result<length, V>(fan, coef_e + t, of.x + at_x + c, of.z + c, result + c);
            });
        });
    });
}

template <class T>
void backward(const Plan &plan, const Graph &graph, const T *coef, const T *x, const T *z, const T *g, T *coef_grad,
              T *x_grad, T *z_grad) {
    const int64_t channels = graph.channels;
    for_senders(plan, graph, coef_grad, x_grad, z_grad, [&](int64_t e, T *sums, T *x_to, T *z_to) {
        const Operands<T> of(plan, graph, x, z, e);
        const T *coef_e = coef + e * plan.num_terms, *g_r = g + graph.receiver[e] * plan.rows * channels;
        for_fans(plan, channels, [&](auto length, const Fan &fan, int64_t t, int64_t at_x) {
            for_channels<T>(channels, [&](auto kind, int64_t c) {
                using V = typename decltype(kind)::type;
                add_gradients<length, V>(fan, coef_e + t, of.x + at_x + c, of.z + c, g_r + c,
                                         sums + t * Block<T>::width, x_to + at_x + c, z_to + c);
            });
        });
    });
}

template <class T>
void double_backward(const Plan &plan, const Graph &graph, const T *coef, const T *x, const T *z, const T *g,
                     const T *coef_, const T *x_, const T *z_, T *coef_grad, T *x_grad, T *z_grad, T *g_grad) {
    const int64_t channels = graph.channels;
    for_receivers(plan, graph, g_grad, [&](int64_t e, T *result) {
        const Operands<T> of(plan, graph, x, z, e), of_(plan, graph, x_, z_, e);
        const T *coef_e = coef + e * plan.num_terms, *coef_e_ = coef_ + e * plan.num_terms;
        for_fans(plan, channels, [&](auto length, const Fan &fan, int64_t t, int64_t at_x) {
            for_channels<T>(channels, [&](auto kind, int64_t c) {
                using V = typename decltype(kind)::type;
                add_second_result<length, V>(fan, coef_e + t, of.x + at_x + c, of.z + c, coef_e_ + t, of_.x + at_x + c,
                                             of_.z + c, result + c);
            });
        });
    });
    for_senders(plan, graph, coef_grad, x_grad, z_grad, [&](int64_t e, T *sums, T *x_to, T *z_to) {
        const Operands<T> of(plan, graph, x, z, e), of_(plan, graph, x_, z_, e);
        const T *coef_e = coef + e * plan.num_terms, *coef_e_ = coef_ + e * plan.num_terms;
        const T *g_r = g + graph.receiver[e] * plan.rows * channels;
        for_fans(plan, channels, [&](auto length, const Fan &fan, int64_t t, int64_t at_x) {
            for_channels<T>(channels, [&](auto kind, int64_t c) {
                using V = typename decltype(kind)::type;
                add_second_gradients<length, V>(fan, coef_e + t, of.x + at_x + c, of.z + c, g_r + c, coef_e_ + t,
                                                of_.x + at_x + c, of_.z + c, sums + t * Block<T>::width,
                                                x_to + at_x + c, z_to + c);
            });
        });
    });
}

}  // namespace

// Each returns whether the graph could be used.
#define EXPORT(T, NAME)                                                                                               \
    extern "C" bool forward_##NAME(const Plan *plan, const Graph *graph, const T *coef, const T *x, const T *z,       \
                                   T *out) {                                                                          \
        if (is_broken(*graph)) return false;                                                                          \
        forward(*plan, *graph, coef, x, z, out);                                                                      \
        return true;                                                                                                  \
    }                                                                                                                 \
    extern "C" bool backward_##NAME(const Plan *plan, const Graph *graph, const T *coef, const T *x, const T *z,      \
                                    const T *g, T *coef_grad, T *x_grad, T *z_grad) {                                 \
        if (is_broken(*graph)) return false;                                                                          \
        backward(*plan, *graph, coef, x, z, g, coef_grad, x_grad, z_grad);                                            \
        return true;                                                                                                  \
    }                                                                                                                 \
    extern "C" bool double_backward_##NAME(const Plan *plan, const Graph *graph, const T *coef, const T *x,           \
                                           const T *z, const T *g, const T *coef_, const T *x_, const T *z_,          \
                                           T *coef_grad, T *x_grad, T *z_grad, T *g_grad) {                           \
        if (is_broken(*graph)) return false;                                                                          \
        double_backward(*plan, *graph, coef, x, z, g, coef_, x_, z_, coef_grad, x_grad, z_grad, g_grad);              \
        return true;                                                                                                  \
    }

EXPORT(float, float32)
EXPORT(double, float64)
