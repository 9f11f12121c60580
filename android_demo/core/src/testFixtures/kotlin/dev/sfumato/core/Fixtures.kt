/** What the tests of both modules share: a small contract made by hand, a network with known answers, the export to test against. */
package dev.sfumato.core

import java.io.File
import java.io.IOException
import kotlin.io.encoding.Base64
import org.junit.Assume.assumeTrue

/** The export whose vectors are checked: the system property `sfumato.export`, else what lies in the app's assets. */
fun exportFile(name: String): ByteArray {
    val given = System.getProperty("sfumato.export")
    val file = File(given ?: "../app/src/main/assets/sfumato", name)
    assumeTrue("no export in ${file.parent}: run `sfumato export EXPORT --android android_demo`", given != null || file.exists())
    return file.readBytes()
}

internal fun normalTable() = NormalTable(exportFile(NormalTable.FILE))

val KEY = DeviceKey(ByteArray(DeviceKey.BYTES) { it.toByte() })

class FakeKeys(private var key: DeviceKey = KEY) : DeviceKeys {
    override fun get() = key

    override fun reset() {
        key = DeviceKey(ByteArray(DeviceKey.BYTES) { 7 })
    }
}

const val SIDE = 16
val MODEL = "a model".encodeToByteArray()
private val BITS = mapOf(2 to 1, 4 to 2, 16 to 4)

/** A vectors.json whose one answer of the model is [parameters], or the one that [FakeNetwork] gives. */
fun vectorsBytes(levels: Int = 2, parameters: Map<String, ByteArray>? = null, colours: Int = 3): ByteArray {
    val network = FakeNetwork(planes = colours * BITS.getValue(levels), colours = colours)
    val ramp = pattern("ramp", SIDE, SIDE)
    val q = flipTopBit(network.answer(flipTopBit(ramp.bytes(colours))))
    val case = mapOf(
        "pattern" to "ramp", "image_sha256" to sha256(ramp.bytes(colours)), "key" to "00".repeat(32), "contract" to "00".repeat(32), "noise_sha256" to "",
        "parameters" to (parameters ?: mapOf("p" to q)).mapValues { Base64.encode(it.value) }, "upload_packed" to "", "rate_bits" to 1.0,
    )
    return writeJson(mapOf("schema" to "sfumato-vectors/2", "model" to listOf(case))).encodeToByteArray()
}

/** The parts of a contract, to be changed by a test before they are written. */
fun contractParts(
    levels: Int = 2,
    vectors: ByteArray = vectorsBytes(levels),
    subsample: Int = 1,
    colours: Int = 3,
): MutableMap<String, Any?> {
    val bits = BITS.getValue(levels)
    fun tensor(name: String, side: Int, planes: Int, scale: Double) = mapOf(
        "name" to name, "shape" to listOf(1, side, side, planes), "layout" to "NHWC", "range" to listOf(0.0, 1.0),
        "unit" to 1.0, "int8_scale" to scale, "int8_zero_point" to -128,
    )
    fun file(name: String, content: ByteArray) =
        mapOf("name" to name, "sha256" to sha256(content), "bytes" to content.size, "role" to "phone")
    return linkedMapOf(
        "schema" to "sfumato-contract/2",
        "mode" to "picture",
        "files" to listOf(file("local_int8.tflite", MODEL), file("vectors.json", vectors)),
        "crop" to "centre, then antialiased bilinear (docs/contract.md)",
        "input" to tensor("image", subsample * SIDE, colours, 1 / 255.0),
        "outputs" to listOf(tensor("p", SIDE, colours * bits, 1 / 256.0)),
        "models" to listOf(mapOf("variant" to "int8", "file" to "local_int8.tflite", "input" to "int8", "output" to "int8")),
        "channel" to mapOf("name" to "dither", "levels" to levels) +
            (if (subsample > 1) mapOf("subsample" to subsample) else emptyMap()) +
            (if (colours == 1) mapOf("colours" to 1) else emptyMap()),
        "sampler" to 1,
        "noise" to 2,
        "upload" to mapOf(
            "encoding" to "png", "bit_depth" to bits, "width" to SIDE, "height" to colours * SIDE,
            "colour" to if (colours == 1) "grey" else "grey, planes red, green, blue one below the other",
        ),
        "keep" to listOf(mapOf("name" to "smiling", "classes" to listOf("no", "yes"))),
        "hide" to listOf("skin"),
        "cost" to mapOf("parameters" to 1, "macs" to 1),
        "gates" to listOf(mapOf("name" to "parity", "value" to 0.1, "limit" to 0.5, "passed" to true, "note" to "")),
        "figures" to mapOf<String, Any?>(),
        "conversion" to mapOf<String, Any?>(),
        "provenance" to mapOf<String, Any?>(),
    )
}

fun contractBytes(parts: Map<String, Any?> = contractParts()): ByteArray = writeJson(parts).encodeToByteArray()

fun smallContract(levels: Int = 2): Contract = Contract.parse(contractBytes(contractParts(levels)))

/** Figures of a contract that says what ordinary photos look like. */
fun figures(familiar: Familiar?): Map<String, Any?> = if (familiar == null) emptyMap() else mapOf(
    Familiar.KEY to
        mapOf("means" to familiar.means, "spreads" to familiar.spreads, "limit" to familiar.limit, "alarms" to 0.01, "images" to 9),
)

/** The key `points` of a contract that keeps smiling. */
fun points(vararg strengths: Int): List<Map<String, Any?>> = strengths.map {
    mapOf(
        "strength" to it, "accuracy" to mapOf("smiling" to 0.9), "rate_bits" to mapOf("mean" to it / 2.0, "p95" to 90.0, "max" to 99.0),
        "upload_bytes" to mapOf("png" to 500.5, "packed" to 480.0),
    )
}

fun smallBundle(
    levels: Int = 2,
    familiar: Familiar? = null,
    points: List<Map<String, Any?>>? = null,
    subsample: Int = 1,
    colours: Int = 3,
): Bundle = Bundle.open { name ->
    val parts = contractParts(levels, vectorsBytes(levels, colours = colours), subsample, colours)
    when (name) {
        Contract.FILE -> contractBytes(parts + ("figures" to figures(familiar)) + listOfNotNull(points?.let { "points" to it }))
        "local_int8.tflite" -> MODEL
        "vectors.json" -> vectorsBytes(levels, colours = colours)
        else -> throw IOException(name)
    }
}

/** Answers every input with the same bytes turned round: enough to see what came in. */
class FakeNetwork(
    private val planes: Int = 3,
    override val delegation: Delegation? = Delegation(42, 42, 1),
    private val onInvoke: () -> Unit = {},
    side: Int = SIDE,
    override val fullyAccelerated: Boolean = false,
    colours: Int = 3,
) : LocalNetwork {
    override val inputs = listOf(TensorInfo("image", listOf(1, side, side, colours), "int8", (1 / 255.0).toFloat(), -128))
    override val outputs = listOf(TensorInfo("p", listOf(1, SIDE, SIDE, planes), "int8", (1 / 256.0).toFloat(), -128))
    var input = ByteArray(0)
    var invoked = 0
    var closed = false

    override fun fill(input: ByteArray) {
        this.input = input.copyOf()
    }

    override fun invoke() {
        invoked++
        onInvoke()
    }

    override fun read(): List<ByteArray> = listOf(answer(input))

    override fun close() {
        closed = true
    }

    fun answer(input: ByteArray) = ByteArray(SIDE * SIDE * planes) { input[input.size - 1 - it % input.size] }
}

/** An answer bundle of two questions, with [table] or without; [served] lies where the table should. */
fun answerBundle(table: ByteArray?, served: ByteArray? = table): Bundle = Bundle.open { name ->
    when (name) {
        Contract.FILE -> contractBytes(answerParts(table))
        "local_int8.tflite" -> MODEL
        "vectors.json" -> ANSWER_VECTORS
        "answer_table.bin" -> served!!
        else -> throw IOException(name)
    }
}

/** The contract of that bundle. */
private fun answerParts(table: ByteArray?): Map<String, Any?> {
    val parts = contractParts(vectors = ANSWER_VECTORS)
    @Suppress("UNCHECKED_CAST")
    val files = parts["files"] as List<Map<String, Any?>>
    val listed = table?.let { listOf(mapOf("name" to "answer_table.bin", "sha256" to sha256(it), "bytes" to it.size, "role" to "phone")) }
    @Suppress("UNCHECKED_CAST")
    val upload = parts["upload"] as Map<String, Any?>
    val scores = mapOf(
        "name" to "scores", "shape" to listOf(1, 1, 1, 5), "layout" to "NHWC", "range" to listOf(-9.0, 9.0), "unit" to 1.0,
        "int8_scale" to 0.07f.toDouble(), "int8_zero_point" to 3,
    )
    return parts + mapOf(
        "mode" to "answer",
        "files" to files + listed.orEmpty(),
        "outputs" to listOf(scores),
        "channel" to mapOf("name" to "answer", "levels" to 2),
        "upload" to upload + ("encoding" to "word"),
        "keep" to listOf(
            mapOf("name" to "age", "classes" to listOf("young", "middle", "old")),
            mapOf("name" to "glasses", "classes" to listOf("no", "yes")),
        ),
        "answer" to mapOf(
            "words" to 6, "image_code" to 1, "margins" to emptyList<Int>(), "entropy_bits" to 2.5,
            "table" to table?.let { "answer_table.bin" },
        ),
    )
}

/** What the network of [answerBundle] gives in these tests: the second class of both questions, the first of its equals. */
val SCORES = byteArrayOf(3, 90, 90, -100, -99)
private val ANSWER_VECTORS = vectorsBytes(parameters = mapOf("scores" to flipTopBit(SCORES)))

/** A made-up photo, for tests that do not see [pattern]. */
fun madeUp(name: String, height: Int, width: Int): Picture = pattern(name, height, width)

/** The PNG of a code word's image, of the size of [answerBundle]. */
fun wordPng(word: Int, words: Int): ByteArray = encodePng(wordImage(word, words, SIDE, SIDE), SIDE, SIDE, 1)

/** Answers every picture with the same scores. */
class ScoresNetwork(private val scores: ByteArray) : LocalNetwork {
    override val inputs = listOf(TensorInfo("image", listOf(1, SIDE, SIDE, 3), "int8", (1 / 255.0).toFloat(), -128))
    override val outputs = listOf(TensorInfo("scores", listOf(1, 1, 1, scores.size), "int8", 0.07f, 3))
    override val delegation: Delegation? = Delegation(42, 42, 1)
    var input = ByteArray(0)

    override fun fill(input: ByteArray) {
        this.input = input
    }

    override fun invoke() = Unit

    override fun read() = listOf(scores)

    override fun close() = Unit
}
