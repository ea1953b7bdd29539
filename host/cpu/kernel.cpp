// The token loop in integers on this machine's processor: weights packed at 2 bits, every result equal to the golden
// model (docs/contract.md). Little-endian blob in (see `blob` in __init__.py), tokens out.
//
// Vectors are doubles: every product and sum of the contract is an integer below 2^53, so they are exact, and the
// compiler may reorder and vectorise them as it likes, which 64-bit integers prevent on AVX2.
//
// Packing: of 128 activations, byte j of 32 holds the weights of j, 32 + j, 64 + j and 96 + j in bit pairs, as w + 1;
// rows come four at a time, so that each load of activations serves four rows.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

constexpr int BLOCK = 128, BYTES = 32, ROWS = 4;
constexpr double MOST = 131071, ONE = 32768;
constexpr int FLUSH = 16;                // blocks whose 16-bit sums cannot overflow: 16 * 4 * 508 < 2^15
constexpr int64_t PARALLEL = 1 << 20;    // weights from which more than one thread pays

double sat(double v) { return v > MOST ? MOST : v < -MOST ? -MOST : v; }

// (p + 2^(s-1)) >> s, and p for s = 0.
struct RoundShift {
    double half, part;
    explicit RoundShift(int s) : half(s ? std::ldexp(1.0, s - 1) : 0), part(std::ldexp(1.0, -s)) {}
    double operator()(double p) const { return std::floor((p + half) * part); }
};
template <int S> double round_shift(double p) { return std::floor((p + (1 << (S - 1))) * (1.0 / (1 << S))); }

int length(uint64_t v) { return v ? 64 - __builtin_clzll(v) : 0; }

struct Reader {
    const uint8_t* at;
    template <class T> T one() {
        T value;
        std::memcpy(&value, at, sizeof value);
        at += sizeof value;
        return value;
    }
    template <class T> std::vector<T> many(size_t n) {
        std::vector<T> values(n);
        std::memcpy(values.data(), at, n * sizeof(T));
        at += n * sizeof(T);
        return values;
    }
    template <class T> std::vector<double> doubles(size_t n) {
        const auto values = many<T>(n);
        return {values.begin(), values.end()};
    }
};

struct Projection {
    int rows, k, blocks;
    int64_t eps, mantissa, exponent;
    std::vector<double> first, product;  // `first` is empty where the mean square is kept
    std::vector<uint8_t> packed;

    explicit Projection(Reader& in) {
        rows = in.one<int32_t>();
        k = in.one<int32_t>();
        const bool has_first = in.one<int32_t>();
        mantissa = in.one<int32_t>();
        exponent = in.one<int32_t>();
        eps = in.one<int64_t>();
        if (has_first) first = in.doubles<int16_t>(k);
        product = in.doubles<int16_t>(k);
        const auto weights = in.many<int8_t>(size_t(rows) * k);
        blocks = (k + BLOCK - 1) / BLOCK;
        packed.assign(size_t(rows + ROWS - 1) / ROWS * ROWS * blocks * BYTES, 0x55);  // 0x55: four zero weights
        for (int row = 0; row < rows; ++row)
            for (int i = 0; i < k; ++i) {
                uint8_t& byte = packed[place(row, i / BLOCK) + i % BYTES];
                const int bit = i % BLOCK / BYTES * 2;
                byte = uint8_t((byte & ~(3 << bit)) | (weights[size_t(row) * k + i] + 1) << bit);
            }
    }

    size_t place(int row, int block) const {
        return ((size_t(row / ROWS) * blocks + block) * ROWS + row % ROWS) * BYTES;
    }
};

struct Layer {
    Projection i, f, g, o, gate, down;
    std::vector<double> lower_bound;
    RoundShift o_shift, m_shift;

    Layer(Reader& in, int hidden)
        : i(in), f(in), g(in), o(in), gate(in), down(in), lower_bound(in.doubles<int32_t>(hidden)),
          o_shift(in.one<int32_t>()), m_shift(in.one<int32_t>()) {}
};

// `sums[row] = sum of w * q` for four rows of one group, before saturation; `offset` is the sum of all q.
void four_rows(const uint8_t* packed, const int8_t* q, int blocks, int32_t offset, int32_t* sums) {
#if defined(__AVX2__)
    const __m256i low = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
    __m256i total[ROWS] = {};
    for (int start = 0; start < blocks; start += FLUSH) {
        __m256i part[ROWS] = {};
        const int end = start + FLUSH < blocks ? start + FLUSH : blocks;
        for (int block = start; block < end; ++block) {
            const auto* in = reinterpret_cast<const __m256i*>(q + size_t(block) * BLOCK);
            const __m256i q0 = _mm256_loadu_si256(in), q1 = _mm256_loadu_si256(in + 1);
            const __m256i q2 = _mm256_loadu_si256(in + 2), q3 = _mm256_loadu_si256(in + 3);
            for (int row = 0; row < ROWS; ++row) {
                const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(packed + (size_t(block) * ROWS + row) * BYTES));
                const __m256i a = _mm256_maddubs_epi16(_mm256_and_si256(w, low), q0);
                const __m256i b = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(w, 2), low), q1);
                const __m256i c = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(w, 4), low), q2);
                const __m256i d = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(w, 6), low), q3);
                part[row] = _mm256_add_epi16(part[row], _mm256_add_epi16(_mm256_add_epi16(a, b), _mm256_add_epi16(c, d)));
            }
        }
        for (int row = 0; row < ROWS; ++row)
            total[row] = _mm256_add_epi32(total[row], _mm256_madd_epi16(part[row], ones));
    }
    const __m256i pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(total[0], total[1]), _mm256_hadd_epi32(total[2], total[3]));
    const __m128i all = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(sums), _mm_sub_epi32(all, _mm_set1_epi32(offset)));
#else
    for (int row = 0; row < ROWS; ++row) {
        int32_t sum = 0;
        for (int block = 0; block < blocks; ++block) {
            const uint8_t* w = packed + (size_t(block) * ROWS + row) * BYTES;
            const int8_t* in = q + size_t(block) * BLOCK;
            for (int lane = 0; lane < 4; ++lane)
                for (int j = 0; j < BYTES; ++j) sum += (w[j] >> (2 * lane) & 3) * in[lane * BYTES + j];
        }
        sums[row] = sum - offset;
    }
#endif
}

struct Model {
    int hidden, intermediate, vocab;
    double multiplier;
    std::vector<double> sigma_table;
    std::vector<int32_t> gumbel_table;
    std::vector<Layer> layers;
    std::vector<Projection> head;
    std::vector<int8_t> embedding;

    std::vector<double> state;
    uint32_t inv_temperature = 0, generator = 1;
    std::vector<double> x, u, candidate, o, m, y;
    std::vector<int32_t> raw, logits;
    std::vector<int8_t> q;
    double square_sum = 0, scale = 0;
    RoundShift shift{0};

    explicit Model(Reader in) {
        hidden = in.one<int32_t>();
        intermediate = in.one<int32_t>();
        const int count = in.one<int32_t>();
        vocab = in.one<int32_t>();
        multiplier = in.one<int32_t>();
        sigma_table = in.doubles<int32_t>(1024);
        gumbel_table = in.many<int32_t>(1024);
        for (int layer = 0; layer < count; ++layer) layers.emplace_back(in, hidden);
        head.emplace_back(in);
        embedding = in.many<int8_t>(size_t(vocab) * hidden);
        state.assign(size_t(count) * hidden, 0);
        const int widest = hidden > intermediate ? hidden : intermediate;
        x.resize(hidden);
        u.resize(widest);
        candidate.resize(hidden);
        o.resize(hidden);
        m.resize(intermediate);
        q.resize(size_t(widest + BLOCK - 1) / BLOCK * BLOCK);
        const int rows = 2 * intermediate > vocab ? 2 * intermediate : vocab;
        raw.resize((rows > hidden ? rows : hidden) + ROWS);
        y.resize(raw.size());
        logits.resize(vocab);
    }

    double sigma(double a) const {
        const int index = (int(std::fabs(a)) + 16) >> 5;
        const double value = sigma_table[index > 1023 ? 1023 : index];
        return a < 0 ? ONE - value : value;
    }
    double silu(double a) const { return round_shift<15>(a * sigma(a)); }

    // Row sums times the scale, in `y`.
    void rescale(int rows) {
        const RoundShift by = shift;  // a copy that stores to `y` cannot change
        const double factor = scale;
        const int32_t* in = raw.data();
        double* out = y.data();
        for (int row = 0; row < rows; ++row) out[row] = sat(by(in[row] * factor));
    }

    // Norm, quantiser, scale and row sums: leaves `raw`, `scale`, `shift`.
    void project(const Projection& p, const double* in) {
        if (!p.first.empty()) {
            const double* gain = p.first.data();
            double sum = 0;
            for (int j = 0; j < p.k; ++j) {
                const double v = round_shift<15>(in[j] * gain[j]);
                sum += v * v;
            }
            square_sum = sum;
        }
        const double* gain = p.product.data();
        double* __restrict out = u.data();
        double largest = 0;
        for (int j = 0; j < p.k; ++j) {
            out[j] = round_shift<15>(in[j] * gain[j]);
            largest = std::fabs(out[j]) > largest ? std::fabs(out[j]) : largest;
        }
        const auto most = int64_t(largest);
        int32_t offset = 0;
        if (most == 0) {
            std::memset(q.data(), 0, q.size());
            scale = 0;
            shift = RoundShift(0);
        } else {
            const int e = length(most);
            const int64_t normal = most << (17 - e), r = (int64_t(127) << 26) / normal;
            const RoundShift by(9 + e);
            const double reciprocal = double(r);
            const double* from = u.data();
            int8_t* __restrict to = q.data();
            for (int j = 0; j < p.k; ++j) {
                const int value = int(std::copysign(by(std::fabs(from[j]) * reciprocal), from[j]));
                to[j] = int8_t(value);
                offset += value;
            }
            std::memset(q.data() + p.k, 0, size_t(p.blocks) * BLOCK - p.k);
            const int64_t sum = int64_t(square_sum) + p.eps, a = sum > 1 ? sum : 1;
            int t = 36 - length(a);
            t -= t & 1;
            const int64_t value = t >= 0 ? a << t : a >> -t;
            int64_t root = int64_t(std::sqrt(double(value)));
            while (root * root > value) --root;
            while ((root + 1) * (root + 1) <= value) ++root;
            scale = double(2 * p.mantissa * normal / root);
            const int64_t wanted = 18 - p.exponent - e - t / 2;
            shift = RoundShift(int(wanted < 0 ? 0 : wanted > 47 ? 47 : wanted));
        }
        const int groups = (p.rows + ROWS - 1) / ROWS;
#pragma omp parallel for schedule(static) if (int64_t(p.rows) * p.k >= PARALLEL)
        for (int group = 0; group < groups; ++group) {
            int32_t* sums = &raw[size_t(group) * ROWS];
            four_rows(&p.packed[p.place(group * ROWS, 0)], q.data(), p.blocks, offset, sums);
            for (int row = 0; row < ROWS; ++row) sums[row] = int32_t(sat(sums[row]));
        }
    }

    void add(const Projection& p, const double* in) {
        project(p, in);
        rescale(hidden);
        for (int j = 0; j < hidden; ++j) x[j] = sat(x[j] + y[j]);
    }

    uint32_t feed(uint32_t token) {
        for (int j = 0; j < hidden; ++j) x[j] = round_shift<8>(embedding[size_t(token) * hidden + j] * multiplier);
        double* h = state.data();
        for (const Layer& layer : layers) {
            project(layer.i, x.data());
            rescale(hidden);
            for (int j = 0; j < hidden; ++j) candidate[j] = silu(y[j]);
            project(layer.f, x.data());
            rescale(hidden);
            for (int j = 0; j < hidden; ++j) {
                const double bound = layer.lower_bound[j];
                const double forget = bound + round_shift<15>((ONE - bound) * sigma(y[j]));
                h[j] = round_shift<15>(forget * h[j] + (ONE - forget) * candidate[j]);
            }
            project(layer.g, x.data());
            const RoundShift by_o = layer.o_shift, by_m = layer.m_shift;
            for (int j = 0; j < hidden; ++j) o[j] = sat(by_o(raw[j] * silu(h[j])));
            add(layer.o, o.data());
            project(layer.gate, x.data());
            rescale(2 * intermediate);
            for (int j = 0; j < intermediate; ++j) m[j] = sat(by_m(raw[2 * j + 1] * silu(y[2 * j])));
            add(layer.down, m.data());
            h += hidden;
        }
        project(head[0], x.data());
        rescale(vocab);
        for (int row = 0; row < vocab; ++row) logits[row] = int32_t(y[row]);
        return choose();
    }

    uint32_t choose() {
        uint32_t best = 0;
        double best_score = 0;
        for (int row = 0; row < vocab; ++row) {
            double score = logits[row];
            if (inv_temperature) {
                generator ^= generator << 13;
                generator ^= generator >> 17;
                generator ^= generator << 5;
                const int z = __builtin_clz(generator);
                const int fraction = int((uint64_t(generator) << (z + 1)) >> 25 & 127);
                const int noise = gumbel_table[(z < 7 ? z : 7) * 128 + fraction] + 1420 * (z > 7 ? z - 7 : 0);
                score = round_shift<12>(score * inv_temperature) + noise;
            }
            if (row == 0 || score > best_score) {
                best = uint32_t(row);
                best_score = score;
            }
        }
        return best;
    }
};

}  // namespace

extern "C" {
Model* model_new(const uint8_t* blob) { return new Model(Reader{blob}); }
void model_free(Model* model) { delete model; }
void model_reset(Model* model) { std::memset(model->state.data(), 0, model->state.size() * sizeof(double)); }
void model_settings(Model* model, uint32_t inv_temperature, uint32_t seed) {
    model->inv_temperature = inv_temperature;
    model->generator = seed;
}
uint32_t model_feed(Model* model, uint32_t token) { return model->feed(token); }
// A place in a sequence: the recurrent state, and behind it the generator.
uint32_t model_place_size(const Model* model) { return uint32_t(model->state.size()) + 1; }
void model_keep(const Model* model, double* place) {
    std::memcpy(place, model->state.data(), model->state.size() * sizeof(double));
    place[model->state.size()] = model->generator;
}
void model_return(Model* model, const double* place) {
    std::memcpy(model->state.data(), place, model->state.size() * sizeof(double));
    model->generator = uint32_t(place[model->state.size()]);
}
// Feed a token, then what was chosen each time: `count` tokens, and the places behind those fed.
void model_go_on(Model* model, uint32_t token, uint32_t count, uint32_t* chosen, double* places) {
    for (uint32_t number = 0; number < count; ++number) {
        chosen[number] = token = model->feed(token);
        model_keep(model, places + size_t(number) * (model->state.size() + 1));
    }
}
const int32_t* model_logits(const Model* model) { return model->logits.data(); }
}
