/* Runs on an ARM64 core: a model through TensorFlow Lite's C interface, or the noise and the draw around it.
 *
 *   guest model  LIBLITERT MODEL INPUT OUTPUTS RUNS
 *   guest time   LIBLITERT MODEL INPUT OUTPUTS THREADS WARMUP RUNS SECONDS SUSTAINED LIMIT
 *   guest dither LIBCRYPTO IMAGE KEY CONTRACT PARAMETERS UPLOAD RUNS BITS GRAY
 *   guest gaussian LIBCRYPTO IMAGE KEY CONTRACT PARAMETERS UPLOAD RUNS FACTOR ADDITIVE TABLE
 *   guest jpeg   LIBTURBOJPEG IMAGE WIDTH HEIGHT QUALITY FILE RUNS
 * CONTRACT holds the 32 bytes of a digest.
 *
 * getppid() is the mark that count.c looks for. Two marks with nothing between them come first; then a mark before and
 * after each step of each of RUNS repetitions. The first repetitions bind libraries and fill caches. OUTPUTS holds, for every output, a line "NAME BYTES" and the bytes. UPLOAD
 * holds the packed upload.
 *
 * `time` runs on a phone and marks nothing: it prints nanoseconds by the monotonic clock, a line "NAME NUMBER" each, and "done" last.
 * RUNS timed runs end after SECONDS, but not before FEWEST_RUNS of them; SUSTAINED seconds without a pause follow. After
 * LIMIT seconds the process ends itself, whoever has lost sight of it.
 *
 * The draw repeats docs/contract.md, "Noise v2" and "Sampler v1", in plain C; hashes and cipher are OpenSSL's.
 */
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
    void (*EVP_CIPHER_CTX_free)(void *);
} crypto;

static void hmac(const crypto *c, const byte *key, const void *text, size_t length, byte *digest)
{
    unsigned size;
    c->HMAC(c->EVP_sha256(), key, 32, text, length, digest, &size);
}

/* Noise v2: HKDF with an empty salt, HMAC over the hashes of contract, q and pixels, AES-256-CTR over zeros. */
static void keyed_noise(const crypto *c, const byte *key, const byte *contract, const byte *q, size_t planes,
                        const byte *pixels, size_t size, byte *noise, size_t count)
{
    static const byte salt[32];
    byte text[16 + 3 * 32], secret[32], stream[32], iv[32];
    int done;

    memcpy(text, "sfumato-noise-v2", 16);
    memcpy(text + 16, contract, 32);
    c->SHA256(q, planes, text + 16 + 32);
    c->SHA256(pixels, size, text + 16 + 64);
    hmac(c, key, text, sizeof text, iv);
    hmac(c, salt, key, 32, secret);
    hmac(c, secret, "noise\x01", 6, stream);
    memset(noise, 0, count);
    void *cipher = c->EVP_CIPHER_CTX_new();
    c->EVP_EncryptInit_ex(cipher, c->EVP_aes_256_ctr(), NULL, stream, iv);
    c->EVP_EncryptUpdate(cipher, noise, &done, noise, (int)count);
    c->EVP_CIPHER_CTX_free(cipher);
}

/* In Gray code a byte of 255 stands for 1. */
static inline byte drawn(byte q, byte noise, int gray)
{
    return (noise < q) | (gray & (q == 255));
}

/* Sampler v1, dither: bit = u < q; plane 3 j + c is bit j of colour c, the most significant first; `gray`: of its Gray code. */
static void dither(const byte *q, const byte *noise, size_t pixels, int bits, int gray, byte *levels)
{
    if (bits == 1) {
        for (size_t i = 0; i < 3 * pixels; i++)
            levels[i] = drawn(q[i], noise[i], gray);
        return;
    }
    for (size_t i = 0; i < pixels; i++, q += 3 * bits, noise += 3 * bits)
        for (int colour = 0; colour < 3; colour++) {
            byte level = 0;
            for (int j = 0; j < bits; j++)
                level = 2 * level + (drawn(q[3 * j + colour], noise[3 * j + colour], gray) ^ (gray & level));
            *levels++ = level;
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

/* The packed form: `bits` bits a level, most significant first, the last byte filled with zeros. */
static void pack(const byte *levels, size_t count, int bits, byte *packed)
{
    size_t each = 8 / bits;
    for (; count >= each; count -= each, levels += each) {
        unsigned value = 0;
        for (size_t j = 0; j < each; j++)
            value = value << bits | levels[j];
        *packed++ = value;
    }
    if (count) {
        unsigned value = 0;
        for (size_t j = 0; j < each; j++)
            value = value << bits | (j < count ? levels[j] : 0);
        *packed = value;
    }
}

/* ---- a yardstick ---- */

static int run_jpeg(char **arguments)
{
    enum { RGB = 0, HALVED_COLOURS = 2, SLOW_DCT = 4096, OWN_BUFFER = 1024 };
    void *library = load(arguments[0]);
    FUNCTION(void *, tjInitCompress, void);
    FUNCTION(unsigned long, tjBufSize, int, int, int);
    FUNCTION(int, tjCompress2, void *, const byte *, int, int, int, int, byte **, unsigned long *, int, int, int);
    size_t size;
    byte *image = read_file(arguments[1], &size);
    int width = atoi(arguments[2]), height = atoi(arguments[3]), quality = atoi(arguments[4]);
    unsigned long bytes = tjBufSize(width, height, HALVED_COLOURS);
    byte *content = malloc(bytes);
    void *encoder = tjInitCompress();
    empty_marks();
    for (int run = atoi(arguments[6]); run > 0; run--) {
        mark();
        int failed = tjCompress2(encoder, image, width, 0, height, RGB, &content, &bytes, HALVED_COLOURS, quality,
                                 SLOW_DCT | OWN_BUFFER);
        mark();
        if (failed)
            fail("guest: the picture cannot be encoded");
    }
    FILE *file = fopen(arguments[5], "wb");
    return file && fwrite(content, 1, bytes, file) == bytes && fclose(file) == 0 ? 0 : 1;
}

static int run_upload(int is_dither, char **arguments)
{
    void *library = load(arguments[0]);
    crypto c = {find(library, "SHA256"), find(library, "HMAC"), find(library, "EVP_sha256"),
                find(library, "EVP_aes_256_ctr"), find(library, "EVP_CIPHER_CTX_new"),
                find(library, "EVP_EncryptInit_ex"), find(library, "EVP_EncryptUpdate"),
                find(library, "EVP_CIPHER_CTX_free")};
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
    byte *noise = malloc(count), *levels = malloc(samples), *packed = malloc(samples);

    empty_marks();
    for (int run = 0; run < runs; run++) {
        mark();
        keyed_noise(&c, key, contract, q, planes, image, size, noise, count);
        mark(), mark();
        if (is_dither)
            dither(q, noise, samples / 3, bits, gray, levels);
        else if (additive)
            gaussian(image, 65536, q, noise, table, factor, size, levels);
        else
            gaussian(q, 65280, q + size, noise, table, factor, size, levels);
        mark(), mark();
        pack(levels, samples, bits, packed);
        mark();
    }
    FILE *file = fopen(arguments[5], "wb");
    size_t bytes = (samples * bits + 7) / 8;
    return file && fwrite(packed, 1, bytes, file) == bytes && fclose(file) == 0 ? 0 : 1;
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
    fail("guest: see the head of guest.c");
}
