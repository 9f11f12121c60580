/**
 * The measuring part of the benchmark activity: the protocol of docs/benchmarks.md, free of android.*.
 *
 *     val request = BenchmarkRequest.parse(extras)
 *     val result = Benchmark(machine).run(request)          // the text of bench.json
 *
 * Everything that can go wrong becomes a `failed` result; nothing falls back to another accelerator.
 */
package dev.sfumato.core

/** The extras of the intent. */
internal data class BenchmarkRequest(
    val id: String,
    val model: String,
    val accelerator: Accelerator,
    val threads: Int,
    val warmup: Int,
    val runs: Int,
    val sustainedSeconds: Int,
    val photo: String?,
) {
    companion object {
        /** Read the extras as the intent holds them: texts and whole numbers. Unknown extras are refused. */
        fun parse(extras: Map<String, Any?>): BenchmarkRequest {
            val unknown = extras.keys - KNOWN
            if (unknown.isNotEmpty()) throw SfumatoException("unknown extra ${unknown.sorted().joinToString()}")
            val name = text(extras, "delegate") ?: "cpu"
            return BenchmarkRequest(
                id = text(extras, "id").orEmpty(),
                model = fileName("model", text(extras, "model") ?: throw SfumatoException("the extra model is missing")),
                accelerator = Accelerator.entries.firstOrNull { it.name.lowercase() == name }
                    ?: throw SfumatoException("unknown delegate '$name': known are cpu, nnapi, gpu, npu"),
                threads = count(extras, "threads", 1, 1..16),
                warmup = count(extras, "warmup", 50, 0..1_000_000),
                runs = count(extras, "runs", 500, 1..1_000_000),
                sustainedSeconds = count(extras, "sustained", 0, 0..3600),
                photo = text(extras, "photo")?.let { fileName("photo", it) },
            )
        }

        private val KNOWN = setOf("id", "model", "delegate", "threads", "warmup", "runs", "sustained", "photo")
        private val NAME = Regex("[A-Za-z0-9_-][A-Za-z0-9._-]*")

        private fun text(extras: Map<String, Any?>, key: String): String? =
            extras[key]?.let { it as? String ?: throw SfumatoException("the extra $key must be text (--es)") }

        private fun count(extras: Map<String, Any?>, key: String, default: Int, allowed: IntRange): Int {
            val given = extras[key] ?: return default
            val value = given as? Int ?: throw SfumatoException("the extra $key must be a whole number (--ei)")
            if (value !in allowed) throw SfumatoException("$key is $value, allowed is ${allowed.first} to ${allowed.last}")
            return value
        }

        private fun fileName(key: String, name: String): String =
            if (NAME.matches(name)) name else throw SfumatoException("the extra $key is '$name', no name of a file in bench/")
    }
}

/** The battery, as far as it can be known: its charge in [percent], whether it is [charging], and its temperature in degrees [celsius]. */
public data class Battery(val percent: Int?, val charging: Boolean?, val celsius: Double?)

/** What the phone has to give: models, files, thermometer, clock. */
public interface BenchmarkMachine {
    /** Name and version of the interpreter. */
    public val runtime: String

    /** The app's own version. */
    public val appVersion: String

    /** Opens the model that is measured. */
    public val networks: NetworkFactory

    /** Content of a file in bench/, the folder that the host fills; refuses what is not there. */
    public fun file(name: String): ByteArray

    /** A picture file to upright pixels, decoded as the app does it for an input of this size. */
    public fun decode(photo: ByteArray, height: Int, width: Int): Picture

    /** 0 none to 6 shutdown; null where Android does not say. */
    public fun thermalStatus(): Int?

    /** The battery as it is now. */
    public fun battery(): Battery

    /** Most memory of the process so far; null where the kernel does not say. */
    public fun peakKilobytes(): Long?

    /** Whether the activity has been in front since the measurement began. */
    public fun inForeground(): Boolean

    /** A clock that only goes forward, in nanoseconds. */
    public fun nanoTime(): Long = System.nanoTime()
}

/** One measurement on a [BenchmarkMachine], asked for by `sfumato bench phone`. */
public class Benchmark(private val machine: BenchmarkMachine) {
    /** The text of bench.json for the [extras] of an intent; never throws. */
    public fun run(extras: Map<String, Any?>): String {
        val id = extras["id"] as? String ?: ""
        return writeJson(
            try {
                measure(BenchmarkRequest.parse(extras))
            } catch (error: Exception) {
                failed(id, error)
            } catch (error: LinkageError) { // a native library that this phone cannot load
                failed(id, error)
            } catch (error: OutOfMemoryError) {
                failed(id, error)
            },
        )
    }

    private fun failed(id: String, error: Throwable): Map<String, Any?> {
        val words = (error as? SfumatoException)?.message ?: "${error.javaClass.simpleName}: ${error.message}"
        val line = words.map { if (it.isISOControl()) ' ' else it }.joinToString("").take(500)
        return mapOf("schema" to SCHEMA, "id" to id, "status" to "failed", "error" to line)
    }

    private fun measure(request: BenchmarkRequest): Map<String, Any?> {
        val content = machine.file(request.model)
        val photo = request.photo?.let(machine::file)
        val contract = photo?.let { Contract.parse(machine.file(Contract.FILE)) }
        val thermalBefore = machine.thermalStatus()
        val begin = machine.nanoTime()
        machine.networks.open(content, request.accelerator, request.threads).requireTaken(request.accelerator).use { model ->
            val initMillis = (machine.nanoTime() - begin) / 1e6
            val delegation = model.delegation
            model.fill(standardInput(model.inputs))
            val firstMillis = time(model) / 1e6
            repeat(request.warmup) { model.invoke() }
            val runs = timed(model, request.runs)
            val sustained = if (request.sustainedSeconds > 0) sustained(model, request.sustainedSeconds) else null
            model.invoke()
            val output = digest(model)
            val stages = if (photo != null && contract != null) stages(model, content, photo, contract) else null
            return mapOf(
                "schema" to SCHEMA,
                "id" to request.id,
                "status" to "done",
                "error" to null,
                "model" to request.model,
                "sha256" to sha256(content),
                "runtime" to machine.runtime,
                "delegate" to request.accelerator.name.lowercase(),
                "threads" to request.threads,
                "nodes" to delegation?.nodes,
                "delegated_nodes" to delegation?.delegated,
                "partitions" to delegation?.partitions,
                "fully_accelerated" to model.fullyAccelerated,
                "init_ms" to initMillis,
                "first_ms" to firstMillis,
                "warmup" to request.warmup,
                "runs_ns" to runs,
                "sustained" to sustained,
                "stages" to stages,
                "output_sha256" to output,
                "thermal" to mapOf("before" to thermalBefore, "after" to machine.thermalStatus()),
                "battery" to machine.battery().let {
                    mapOf("percent" to it.percent, "charging" to it.charging, "celsius" to it.celsius)
                },
                "peak_kb" to machine.peakKilobytes(),
                "foreground" to machine.inForeground(),
                "app" to machine.appVersion,
            )
        }
    }

    private fun timed(model: LocalNetwork, runs: Int): LongArray {
        val found = LongArray(runs)
        val end = machine.nanoTime() + LONGEST_NANOS
        for (i in 0 until runs) {
            found[i] = time(model)
            if (i + 1 >= FEWEST_RUNS && machine.nanoTime() > end) return found.copyOf(i + 1)
        }
        return found
    }

    /** Run without a pause, in windows of a second: a phone that grows warm shows it here. */
    private fun sustained(model: LocalNetwork, seconds: Int): Map<String, Any?> {
        val windows = mutableListOf<Map<String, Any?>>()
        val begin = machine.nanoTime()
        var now = begin
        while (now - begin < seconds * SECOND) {
            val runs = mutableListOf<Long>()
            val opened = now
            while (now - opened < SECOND) {
                runs += time(model)
                now = machine.nanoTime()
            }
            runs.sort()
            windows += mapOf(
                "runs" to runs.size,
                "p50_ns" to percentile(runs, 50),
                "p90_ns" to percentile(runs, 90),
                "thermal" to machine.thermalStatus(),
            )
        }
        return mapOf("seconds" to (now - begin) / 1e9, "windows" to windows)
    }

    private fun time(model: LocalNetwork): Long {
        val start = machine.nanoTime()
        model.invoke()
        return machine.nanoTime() - start
    }

    private fun digest(model: LocalNetwork): String =
        sha256(model.readByName().toSortedMap().values.fold(ByteArray(0), ByteArray::plus))

    /** The whole way of a photo, each stage by itself; the first three passes are not counted. */
    private fun stages(model: LocalNetwork, content: ByteArray, photo: ByteArray, contract: Contract): Map<String, Any?> {
        contract.file(contract.model.file).check(content)
        checkTensors(contract, model)
        val table = if (contract.channel is Channel.Gaussian) NormalTable(machine.file(NormalTable.FILE)) else null
        val code = contract.answer?.let { AnswerCode.of(contract, it) { name -> machine.file(name).also(contract.file(name)::check) } }
        val stages = PhotoStages(contract, model, table, code, machine)
        repeat(STAGE_WARMUP) { stages.pass(photo) }
        val passes = List(STAGE_RUNS) { stages.pass(photo) }
        val columns = PhotoStages.NAMES.mapIndexed { i, name -> "${name}_ns" to LongArray(STAGE_RUNS) { passes[it][i] } }
        return mapOf("runs" to STAGE_RUNS) + columns
    }

    internal companion object {
        const val SCHEMA = "sfumato-phone/1"
        private const val SECOND = 1_000_000_000L
        private const val LONGEST_NANOS = 10 * SECOND
        private const val FEWEST_RUNS = 10
        private const val STAGE_WARMUP = 3
        private const val STAGE_RUNS = 20

        /** Byte i of the picture every host and phone measures with. */
        fun standardByte(i: Int): Byte = ((i * -1640531535) ushr 24).toByte()

        /** The standard picture as this model takes it. */
        fun standardInput(inputs: List<TensorInfo>): ByteArray {
            val tensor = inputs.singleOrNull() ?: throw SfumatoException("the model has ${inputs.size} inputs, one is measured")
            val size = tensor.shape.fold(1) { all, side -> all * side }
            val bytes = ByteArray(size, ::standardByte)
            return when (tensor.type) {
                "int8" -> flipTopBit(bytes)
                "float32" -> floatBytes(bytes)
                else -> throw SfumatoException("the model's input is ${tensor.type}, only int8 and float32 are measured")
            }
        }

        private fun floatBytes(bytes: ByteArray): ByteArray {
            val buffer = java.nio.ByteBuffer.allocate(4 * bytes.size).order(java.nio.ByteOrder.nativeOrder())
            for (byte in bytes) buffer.putFloat(byte.unsigned / 255f)
            return buffer.array()
        }

        /** Nearest rank of a sorted list. */
        private fun percentile(sorted: List<Long>, percent: Int): Long = sorted[(sorted.size * percent + 99) / 100 - 1]
    }
}

/** One pass of a photo, stage by stage. */
private class PhotoStages(
    private val contract: Contract,
    private val network: LocalNetwork,
    private val table: NormalTable?,
    private val code: AnswerCode?,
    private val machine: BenchmarkMachine,
) {
    private val key = DeviceKey(ByteArray(DeviceKey.BYTES) { it.toByte() })
    private val laps = LongArray(NAMES.size)

    fun pass(photo: ByteArray): LongArray {
        var stage = 0
        fun <T> timed(work: () -> T): T {
            val start = machine.nanoTime()
            return work().also { laps[stage++] = machine.nanoTime() - start }
        }
        val decoded = timed { machine.decode(photo, contract.height, contract.width) }
        val input = timed { decoded.fit(contract.height, contract.width).let { if (contract.planes == 1) it.grey() else it } }
        val pixels = input.bytes(contract.planes)
        network.fill(flipTopBit(pixels))
        timed(network::invoke)
        val q = network.readByName().mapValues { flipTopBit(it.value) }
        val count = contract.channel.noiseBytes(contract.samples)
        val noise = timed { keyedNoise(key, contract.digest, contract.parameterBytes(q), pixels, count) }
        if (code != null) {
            val word = timed { code.word(q.getValue(Contract.SCORES), noise) }
            timed { wordBytes(word, code.words) }
            return laps.copyOf()
        }
        val levels = timed { sample(contract.channel, input, q, noise, table) }
        timed { encodePng(levels, contract.uploadHeight, contract.uploadWidth, contract.channel) }
        return laps.copyOf()
    }

    companion object {
        val NAMES = listOf("decode", "resize", "network", "noise", "sampler", "encode")
    }
}
