/* Runs on an ARM64 core: a model through TensorFlow Lite's C interface, or the noise and the draw around it.
 *
 *   guest model  LIBLITERT MODEL INPUT OUTPUTS RUNS
 *   guest time   LIBLITERT MODEL INPUT OUTPUTS THREADS WARMUP RUNS SECONDS SUSTAINED LIMIT
 *   guest dither LIBCRYPTO IMAGE KEY CONTRACT PARAMETERS UPLOAD RUNS BITS GRAY
 *   guest gaussian LIBCRYPTO IMAGE KEY CONTRACT PARAMETERS UPLOAD RUNS FACTOR ADDITIVE TABLE
 *   guest jpeg   LIBTURBOJPEG IMAGE WIDTH HEIGHT QUALITY FILE RUNS
 *   guest webp   LIBWEBP IMAGE WIDTH HEIGHT QUALITY FILE RUNS
 * CONTRACT holds the 32 bytes of a digest.
 *
 * getppid() is the mark that count.c looks for. Two marks with nothing between them come first; then a mark before and
 * after each step of each of RUNS repetitions. The first repetitions bind libraries and fill caches. OUTPUTS holds, for every
 * output, a line "NAME BYTES" and the bytes. UPLOAD holds the packed upload.
 *
 * `time` runs on a phone and marks nothing: it prints nanoseconds by the monotonic clock, a line "NAME NUMBER" each, and "done" last.
 * RUNS timed runs end after SECONDS, but not before FEWEST_RUNS of them; SUSTAINED seconds without a pause follow. After
 * LIMIT seconds the process ends itself, whoever has lost sight of it.
 *
 * The draw repeats docs/contract.md, "Noise v2" and "Sampler v1"; hashes and cipher are OpenSSL's. Comparing and packing are one
 * pass in vectors, which every ARM64 core has: levels are never written.
 */
#include <arm_neon.h>
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef unsigned char byte;

static void fail(const char *form, ...)
{
    va_list values;
    va_start(values, form);
    vfprintf(stderr, form, values);
    va_end(values);
    fputc('\n', stderr);
    exit(1);
}

static void *load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW);
    if (!library)
        fail("guest: %s", dlerror());
    return library;
}

static void *find(void *library, const char *name)
{
    void *symbol = dlsym(library, name);
    if (!symbol)
        fail("guest: the library has no %s", name);
    return symbol;
}

static byte *read_file(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail("guest: cannot read %s", path);
    fseek(file, 0, SEEK_END);
    *length = ftell(file);
    rewind(file);
    byte *content = malloc(*length + 1);
    if (fread(content, 1, *length, file) != *length)
        fail("guest: cannot read %s", path);
    fclose(file);
    return content;
}

static void mark(void) { (void)getppid(); }

static void empty_marks(void)
{
    mark();
    mark();
}

/* ---- a model ---- */

#define FUNCTION(result, name, ...) result (*name)(__VA_ARGS__) = find(library, #name)

static void fill_input(void *library, void *interpreter, const char *path)
{
    FUNCTION(void *, TfLiteInterpreterGetInputTensor, const void *, int32_t);
    FUNCTION(size_t, TfLiteTensorByteSize, const void *);
    FUNCTION(void *, TfLiteTensorData, const void *);
    size_t length;
    byte *input = read_file(path, &length);
    void *image = TfLiteInterpreterGetInputTensor(interpreter, 0);
    if (length != TfLiteTensorByteSize(image))
        fail("guest: the model takes %zu bytes, not %zu", TfLiteTensorByteSize(image), length);
    memcpy(TfLiteTensorData(image), input, length);
}

static int write_outputs(void *library, const void *interpreter, const char *path)
{
    FUNCTION(int32_t, TfLiteInterpreterGetOutputTensorCount, const void *);
    FUNCTION(const void *, TfLiteInterpreterGetOutputTensor, const void *, int32_t);
    FUNCTION(const char *, TfLiteTensorName, const void *);
    FUNCTION(size_t, TfLiteTensorByteSize, const void *);
    FUNCTION(void *, TfLiteTensorData, const void *);
    FILE *file = fopen(path, "wb");
    for (int i = 0; file && i < TfLiteInterpreterGetOutputTensorCount(interpreter); i++) {
        const void *output = TfLiteInterpreterGetOutputTensor(interpreter, i);
        fprintf(file, "%s %zu\n", TfLiteTensorName(output), TfLiteTensorByteSize(output));
        fwrite(TfLiteTensorData(output), 1, TfLiteTensorByteSize(output), file);
    }
    return file && fclose(file) == 0 ? 0 : 1;
}

static int run_model(char **arguments)
{
    void *library = load(arguments[0]);
    FUNCTION(void *, TfLiteModelCreateFromFile, const char *);
    FUNCTION(void *, TfLiteInterpreterOptionsCreate, void);
    FUNCTION(void, TfLiteInterpreterOptionsSetNumThreads, void *, int32_t);
    FUNCTION(void, TfLiteInterpreterOptionsAddDelegate, void *, void *);
    FUNCTION(void *, TfLiteXNNPackDelegateCreate, const void *);
    FUNCTION(void *, TfLiteInterpreterCreate, const void *, const void *);
    FUNCTION(int, TfLiteInterpreterAllocateTensors, void *);
    FUNCTION(int, TfLiteInterpreterInvoke, void *);

    void *model = TfLiteModelCreateFromFile(arguments[1]);
    if (!model)
        fail("guest: %s is no model", arguments[1]);
    void *options = TfLiteInterpreterOptionsCreate();
    TfLiteInterpreterOptionsSetNumThreads(options, 1);
    /* This library does not apply XNNPACK by itself. */
    TfLiteInterpreterOptionsAddDelegate(options, TfLiteXNNPackDelegateCreate(NULL));
    void *interpreter = TfLiteInterpreterCreate(model, options);
    if (!interpreter || TfLiteInterpreterAllocateTensors(interpreter))
        fail("guest: the model cannot be loaded");

    fill_input(library, interpreter, arguments[2]);
    empty_marks();
    for (int run = atoi(arguments[4]); run > 0; run--) {
        mark();
        int failed = TfLiteInterpreterInvoke(interpreter);
        mark();
        if (failed)
            fail("guest: the model cannot be run");
    }

    return write_outputs(library, interpreter, arguments[3]);
}

/* ---- a model on a phone, by the clock ---- */

enum { FEWEST_RUNS = 10 };

/* Only the first field is ours to set, and it is the first in every release: the rest is as large as any of them needs. */
typedef struct {
    int32_t num_threads;
    byte others[508];
} xnnpack_options;

static int64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1000000000LL * now.tv_sec + now.tv_nsec;
}

static long peak_kilobytes(void)
{
    char line[256];
    long found = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmHWM: %ld", &found) == 1)
            break;
    if (file)
        fclose(file);
    return found;
}

typedef struct {
    int (*invoke)(void *);
    void *interpreter;
} runner;

static int64_t timed(const runner *model)
{
    int64_t begin = nanoseconds();
    if (model->invoke(model->interpreter))
        fail("guest: the model cannot be run");
    return nanoseconds() - begin;
}

static int time_model(char **arguments)
{
    int threads = atoi(arguments[4]), warmup = atoi(arguments[5]), runs = atoi(arguments[6]);
    int64_t longest = (int64_t)(1e9 * atof(arguments[7])), sustained = (int64_t)(1e9 * atof(arguments[8]));
    alarm((unsigned)atoi(arguments[9]));
    void *library = load(arguments[0]);
    FUNCTION(void *, TfLiteModelCreate, const void *, size_t);
    FUNCTION(void *, TfLiteInterpreterOptionsCreate, void);
    FUNCTION(void, TfLiteInterpreterOptionsSetNumThreads, void *, int32_t);
    FUNCTION(void, TfLiteInterpreterOptionsAddDelegate, void *, void *);
    FUNCTION(xnnpack_options, TfLiteXNNPackDelegateOptionsDefault, void);
    FUNCTION(void *, TfLiteXNNPackDelegateCreate, const void *);
    FUNCTION(void *, TfLiteInterpreterCreate, const void *, const void *);
    FUNCTION(int, TfLiteInterpreterAllocateTensors, void *);
    FUNCTION(int, TfLiteInterpreterInvoke, void *);
    size_t length;
    byte *content = read_file(arguments[1], &length);
    int64_t *found = calloc((size_t)runs, sizeof *found);

    int64_t begin = nanoseconds();
    void *model = TfLiteModelCreate(content, length);
    if (!model)
        fail("guest: %s is no model", arguments[1]);
    void *options = TfLiteInterpreterOptionsCreate();
    TfLiteInterpreterOptionsSetNumThreads(options, threads);
    xnnpack_options xnnpack = TfLiteXNNPackDelegateOptionsDefault();
    xnnpack.num_threads = threads;
    TfLiteInterpreterOptionsAddDelegate(options, TfLiteXNNPackDelegateCreate(&xnnpack));
    void *interpreter = TfLiteInterpreterCreate(model, options);
    if (!interpreter || TfLiteInterpreterAllocateTensors(interpreter))
        fail("guest: the model cannot be loaded");
    int64_t init = nanoseconds() - begin;

    fill_input(library, interpreter, arguments[2]);
    runner this_model = {TfLiteInterpreterInvoke, interpreter};
    int64_t first = timed(&this_model);
    while (warmup-- > 0)
        timed(&this_model);
    int done = 0;
    int64_t end = nanoseconds() + longest;
    while (done < runs && (done < FEWEST_RUNS || nanoseconds() < end))
        found[done++] = timed(&this_model);
    /* Printed before the long part, which needs memory of its own. */
    printf("init_ns %lld\nfirst_ns %lld\n", (long long)init, (long long)first);
    for (int i = 0; i < done; i++)
        printf("run_ns %lld\n", (long long)found[i]);
    printf("peak_kb %ld\n", peak_kilobytes());

    size_t count = 0, room = 1 << 16;
    int64_t *more = malloc(room * sizeof *more);
    for (end = nanoseconds() + sustained; nanoseconds() < end; count++) {
        if (count == room && !(more = realloc(more, (room *= 2) * sizeof *more)))
            fail("guest: no memory");
        more[count] = timed(&this_model);
    }
    for (size_t i = 0; i < count; i++)
        printf("sustained_ns %lld\n", (long long)more[i]);
    if (write_outputs(library, interpreter, arguments[3]))
        fail("guest: cannot write %s", arguments[3]);
    puts("done");
    return fflush(stdout) ? 1 : 0;
}

/* ---- noise and draw ---- */

typedef struct {
    byte *(*SHA256)(const byte *, size_t, byte *);
    byte *(*HMAC)(const void *, const void *, int, const byte *, size_t, byte *, unsigned *);
    const void *(*EVP_sha256)(void);
    const void *(*EVP_aes_256_ctr)(void);
    void *(*EVP_CIPHER_CTX_new)(void);
    int (*EVP_EncryptInit_ex)(void *, const void *, void *, const byte *, const byte *);
    int (*EVP_EncryptUpdate)(void *, byte *, int *, const byte *, int);
} crypto;

static void hmac(const crypto *c, const byte *key, const void *text, size_t length, byte *digest)
{
    unsigned size;
    c->HMAC(c->EVP_sha256(), key, 32, text, length, digest, &size);
}

/* The cipher of a device key, set up once as sfumato.runtime.keyed_noise keeps it too: HKDF with an empty salt, AES-256-CTR. */
static void *device_cipher(const crypto *c, const byte *key)
{
    static const byte salt[32];
    byte secret[32], stream[32];

    hmac(c, salt, key, 32, secret);
    hmac(c, secret, "noise\x01", 6, stream);
    void *cipher = c->EVP_CIPHER_CTX_new();
    c->EVP_EncryptInit_ex(cipher, c->EVP_aes_256_ctr(), NULL, stream, salt);
    return cipher;
}

/* Noise v2: HMAC over the hashes of contract, q and pixels, then the cipher over zeros. */
static void keyed_noise(const crypto *c, void *cipher, const byte *key, const byte *contract, const byte *q, size_t planes,
                        const byte *pixels, size_t size, byte *noise, size_t count)
{
    byte text[16 + 3 * 32], iv[32];
    int done;

    memcpy(text, "sfumato-noise-v2", 16);
    memcpy(text + 16, contract, 32);
    c->SHA256(q, planes, text + 16 + 32);
    c->SHA256(pixels, size, text + 16 + 64);
    hmac(c, key, text, sizeof text, iv);
    memset(noise, 0, count);
    c->EVP_EncryptInit_ex(cipher, NULL, NULL, NULL, iv);
    c->EVP_EncryptUpdate(cipher, noise, &done, noise, (int)count);
}

/* Sampler v1, dither: bit = u < q; in Gray code a byte of 255 stands for 1. All bits of a lane, or none. */
static inline uint8x16_t drawn(uint8x16_t q, uint8x16_t noise, int gray)
{
    uint8x16_t ones = vcgtq_u8(q, noise);
    return gray ? vorrq_u8(ones, vceqq_u8(q, vdupq_n_u8(255))) : ones;
}

/* The levels of one colour of 16 pixels, from `bits` vectors of drawn bits: those of a pixel are neighbours, the first counts
 * most. */
static inline uint8x16_t levels_of(const uint8x16_t *ones, int bits, int gray)
{
    static const byte two[16] = {2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1};
    static const byte four[16] = {8, 4, 2, 1, 8, 4, 2, 1, 8, 4, 2, 1, 8, 4, 2, 1};
    uint8x16_t values = vld1q_u8(bits == 2 ? two : four), level;
    level = vpaddq_u8(vandq_u8(ones[0], values), vandq_u8(ones[1], values));
    if (bits == 4)
        level = vpaddq_u8(level, vpaddq_u8(vandq_u8(ones[2], values), vandq_u8(ones[3], values)));
    if (gray) /* each bit is the exclusive or of the drawn ones up to it */
        level = veorq_u8(level, vshrq_n_u8(level, 1));
    if (gray && bits == 4)
        level = veorq_u8(level, vshrq_n_u8(level, 2));
    return level;
}

/* Draws and packs as many samples as fill vectors, one bit each; how many those are. */
static inline size_t draw_one_bit(const byte *q, const byte *noise, size_t samples, int gray, byte *packed)
{
    static const byte each[16] = {128, 64, 32, 16, 8, 4, 2, 1, 128, 64, 32, 16, 8, 4, 2, 1};
    const uint8x16_t values = vld1q_u8(each);
    size_t done = 0;
    for (; done + 128 <= samples; done += 128, packed += 16) {
        uint8x16_t part[8];
        for (int i = 0; i < 8; i++)
            part[i] = vandq_u8(drawn(vld1q_u8(q + done + 16 * i), vld1q_u8(noise + done + 16 * i), gray), values);
        for (int count = 4; count; count /= 2)
            for (int i = 0; i < count; i++)
                part[i] = vpaddq_u8(part[2 * i], part[2 * i + 1]);
        vst1q_u8(packed, part[0]);
    }
    return done;
}

/* The same for 2 and 4 bits, 16 pixels at a time. Every third byte of q is the next bit of a colour, or the first of the next
 * pixel's: a load that takes three vectors apart leaves the bits of a level side by side. */
static inline size_t draw_more_bits(const byte *q, const byte *noise, size_t samples, int bits, int gray,
                                    byte *packed)
{
#define AT(sample) ((sample) % 3 * 16 + (sample) / 3)
#define EVERY(step, n) AT(n), AT(n + step), AT(n + 2 * step), AT(n + 3 * step)
#define SECOND(n) EVERY(2, n), EVERY(2, n + 8), EVERY(2, n + 16), EVERY(2, n + 24), EVERY(2, n + 32), EVERY(2, n + 40)
#define FOURTH(n) EVERY(4, n), EVERY(4, n + 16), EVERY(4, n + 32), 0, 0, 0, 0
    static const byte seconds[2][24] = {{SECOND(0)}, {SECOND(1)}};
    static const byte fourths[4][16] = {{FOURTH(0)}, {FOURTH(1)}, {FOURTH(2)}, {FOURTH(3)}};
    size_t done = 0;
    for (; done + 48 <= samples; done += 48) {
        uint8x16_t ones[3][4];
        uint8x16x3_t levels;
        for (int i = 0; i < bits; i++, q += 48, noise += 48) {
            uint8x16x3_t p = vld3q_u8(q), u = vld3q_u8(noise);
            for (int colour = 0; colour < 3; colour++)
                ones[colour][i] = drawn(p.val[colour], u.val[colour], gray);
        }
        for (int colour = 0; colour < 3; colour++)
            levels.val[colour] = levels_of(ones[colour], bits, gray);
        /* Levels of the three colours -> in the order of the samples, as many to a byte as fit. */
        if (bits == 4) {
            uint8x16_t most = vqtbl3q_u8(levels, vld1q_u8(seconds[0]));
            uint8x16_t least = vqtbl3q_u8(levels, vld1q_u8(seconds[1]));
            uint8x8_t last = vqtbl3_u8(levels, vld1_u8(seconds[0] + 16));
            vst1q_u8(packed, vsliq_n_u8(least, most, 4));
            vst1_u8(packed + 16, vsli_n_u8(vqtbl3_u8(levels, vld1_u8(seconds[1] + 16)), last, 4));
            packed += 24;
        } else {
            uint8x16_t bytes = vqtbl3q_u8(levels, vld1q_u8(fourths[3]));
            bytes = vsliq_n_u8(bytes, vqtbl3q_u8(levels, vld1q_u8(fourths[2])), 2);
            bytes = vsliq_n_u8(bytes, vqtbl3q_u8(levels, vld1q_u8(fourths[1])), 4);
            bytes = vsliq_n_u8(bytes, vqtbl3q_u8(levels, vld1q_u8(fourths[0])), 6);
            vst1_u8(packed, vget_low_u8(bytes));
            vst1q_lane_u32((uint32_t *)(packed + 8), vreinterpretq_u32_u8(bytes), 2);
            packed += 12;
        }
    }
    return done;
}

/* Sampler v1, dither, and the packed form in one pass: plane 3 j + c is bit j of colour c, the most significant first; `gray`: of
 * its Gray code. A level has `bits` bits, the most significant first, and the last byte is filled with zeros. */
static void draw_packed(const byte *q, const byte *noise, size_t samples, int bits, int gray, byte *packed)
{
    size_t done;
    /* Constants, so that each of the six is compiled by itself. */
    if (bits == 1)
        done = gray ? draw_one_bit(q, noise, samples, 1, packed) : draw_one_bit(q, noise, samples, 0, packed);
    else if (bits == 2)
        done = gray ? draw_more_bits(q, noise, samples, 2, 1, packed) : draw_more_bits(q, noise, samples, 2, 0, packed);
    else
        done = gray ? draw_more_bits(q, noise, samples, 4, 1, packed) : draw_more_bits(q, noise, samples, 4, 0, packed);
    unsigned value = 1; /* a bit that marks how far the byte is filled */
    for (packed += done * bits / 8; done < samples; done++) {
        unsigned level = 0;
        for (int j = 0; j < bits; j++) {
            size_t at = done / 3 * 3 * bits + 3 * j + done % 3;
            level = 2 * level + (((noise[at] < q[at]) | (gray & (q[at] == 255))) ^ (gray & level & 1));
        }
        value = value << bits | level;
        if (value > 255) {
            *packed++ = value;
            value = 1;
        }
    }
    if (value > 1) {
        while (value < 256)
            value <<= bits;
        *packed = value;
    }
}

/* Sampler v1, gaussian: clip((base + s t K + 2^15) >> 16). */
static void gaussian(const byte *mean, int32_t unit, const byte *scale, const byte *noise, const int16_t *table,
                     int32_t factor, size_t samples, byte *levels)
{
    for (size_t i = 0; i < samples; i++) {
        int32_t t = table[noise[2 * i] + 256 * noise[2 * i + 1]];
        int32_t value = (mean[i] * unit + scale[i] * t * factor + 32768) >> 16;
        levels[i] = value < 0 ? 0 : value > 255 ? 255 : value;
    }
}

/* ---- yardsticks ---- */

/* A picture and what to do with it, from the arguments behind the library. */
typedef struct {
    byte *rgb;
    int width, height, quality, runs;
    const char *file;
} yardstick;

static yardstick read_yardstick(char **arguments)
{
    size_t size;
    return (yardstick){read_file(arguments[0], &size), atoi(arguments[1]), atoi(arguments[2]),
                       atoi(arguments[3]),             atoi(arguments[5]), arguments[4]};
}

static int write_file(const char *path, const byte *content, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    return file && fwrite(content, 1, bytes, file) == bytes && fclose(file) == 0 ? 0 : 1;
}

static int run_jpeg(char **arguments)
{
    enum { RGB = 0, HALVED_COLOURS = 2, SLOW_DCT = 4096, OWN_BUFFER = 1024 };
    void *library = load(arguments[0]);
    FUNCTION(void *, tjInitCompress, void);
    FUNCTION(unsigned long, tjBufSize, int, int, int);
    FUNCTION(int, tjCompress2, void *, const byte *, int, int, int, int, byte **, unsigned long *, int, int, int);
    yardstick y = read_yardstick(arguments + 1);
    unsigned long bytes = tjBufSize(y.width, y.height, HALVED_COLOURS);
    byte *content = malloc(bytes);
    void *encoder = tjInitCompress();
    empty_marks();
    while (y.runs-- > 0) {
        mark();
        int failed = tjCompress2(encoder, y.rgb, y.width, 0, y.height, RGB, &content, &bytes, HALVED_COLOURS, y.quality,
                                 SLOW_DCT | OWN_BUFFER);
        mark();
        if (failed)
            fail("guest: the picture cannot be encoded");
    }
    return write_file(y.file, content, bytes);
}

/* The simplest of libwebp's functions; it takes the memory it needs itself, as a caller would have to. */
static int run_webp(char **arguments)
{
    void *library = load(arguments[0]);
    FUNCTION(size_t, WebPEncodeRGB, const byte *, int, int, int, float, byte **);
    FUNCTION(void, WebPFree, void *);
    yardstick y = read_yardstick(arguments + 1);
    byte *content = NULL;
    size_t bytes = 0;
    empty_marks();
    while (y.runs-- > 0) {
        WebPFree(content);
        mark();
        bytes = WebPEncodeRGB(y.rgb, y.width, y.height, 3 * y.width, y.quality, &content);
        mark();
        if (!bytes)
            fail("guest: the picture cannot be encoded");
    }
    return write_file(y.file, content, bytes);
}

static int run_upload(int is_dither, char **arguments)
{
    void *library = load(arguments[0]);
    crypto c = {find(library, "SHA256"), find(library, "HMAC"), find(library, "EVP_sha256"),
                find(library, "EVP_aes_256_ctr"), find(library, "EVP_CIPHER_CTX_new"),
                find(library, "EVP_EncryptInit_ex"), find(library, "EVP_EncryptUpdate")};
    size_t size, planes, unused;
    byte *image = read_file(arguments[1], &size), *key = read_file(arguments[2], &unused);
    byte *contract = read_file(arguments[3], &unused), *q = read_file(arguments[4], &planes);
    int runs = atoi(arguments[6]), bits = is_dither ? atoi(arguments[7]) : 8;
    int gray = is_dither ? atoi(arguments[8]) : 0;
    int32_t factor = is_dither ? 0 : atoi(arguments[7]);
    int additive = is_dither ? 0 : atoi(arguments[8]);
    int16_t *table = is_dither ? NULL : (int16_t *)read_file(arguments[9], &unused);
    /* A dithered upload may have fewer samples than the picture has colours. */
    size_t samples = is_dither ? planes / bits : size, count = is_dither ? planes : 2 * size;
    byte *noise = malloc(count), *packed = malloc(samples);

    void *cipher = device_cipher(&c, key);

    empty_marks();
    for (int run = 0; run < runs; run++) {
        mark();
        keyed_noise(&c, cipher, key, contract, q, planes, image, size, noise, count);
        mark(), mark();
        if (is_dither)
            draw_packed(q, noise, samples, bits, gray, packed);
        else if (additive)
            gaussian(image, 65536, q, noise, table, factor, size, packed);
        else
            gaussian(q, 65280, q + size, noise, table, factor, size, packed);
        mark();
    }
    return write_file(arguments[5], packed, (samples * bits + 7) / 8);
}

int main(int argc, char **argv)
{
    if (argc == 7 && !strcmp(argv[1], "model"))
        return run_model(argv + 2);
    if (argc == 12 && !strcmp(argv[1], "time"))
        return time_model(argv + 2);
    if (argc == 11 && !strcmp(argv[1], "dither"))
        return run_upload(1, argv + 2);
    if (argc == 12 && !strcmp(argv[1], "gaussian"))
        return run_upload(0, argv + 2);
    if (argc == 9 && !strcmp(argv[1], "jpeg"))
        return run_jpeg(argv + 2);
    if (argc == 9 && !strcmp(argv[1], "webp"))
        return run_webp(argv + 2);
    fail("guest: see the head of guest.c");
}
