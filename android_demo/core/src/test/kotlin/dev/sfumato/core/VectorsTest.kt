package dev.sfumato.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

/** The shared vectors.json, bit for bit. */
class VectorsTest {
    private val bundle = Bundle.open(::exportFile)
    private val root = bundle.vectors.root

    private fun JsonObject.bytes(key: String) = text(key).hexToByteArray()

    private fun JsonObject.key() = DeviceKey(bytes("key"))

    private fun JsonObject.picture() = pattern(text("pattern"), int("height"), int("width"))

    @Test
    fun noise() {
        for (case in cases("noise", 12)) {
            val picture = case.picture()
            val (contract, q) = case.bytes("contract") to case.bytes("parameters")
            assertEquals(case.text("image_sha256"), imageHash(picture.rgb).toHexString())
            assertEquals(case.text("stream_key"), streamKey(case.key()).toHexString())
            assertEquals(case.text("iv"), streamIv(case.key(), contract, imageHash(q), imageHash(picture.rgb)).toHexString())
            assertEquals(case.text("noise"), keyedNoise(case.key(), contract, q, picture.rgb, 80).toHexString())
        }
    }

    @Test
    fun aDigestOfAnotherLengthIsRefused() {
        val digest = ByteArray(32)
        assertThrows(SfumatoException::class.java) { keyedNoise(KEY, ByteArray(31), digest, digest, 1) }
        assertThrows(SfumatoException::class.java) { streamIv(KEY, digest, ByteArray(64), digest) }
    }

    @Test
    fun dither() {
        for (case in cases("dither", 10)) {
            val bits = case.int("bits")
            val levels = dither(case.bytes("p"), case.bytes("noise"), bits, case.flagOrNull("gray") ?: false, if ("colours" in case) case.int("colours") else 3)
            assertEquals(case.text("levels"), levels.toHexString())
            assertEquals(case.text("packed"), pack(levels, bits).toHexString())
        }
    }

    @Test
    fun gaussian() {
        val table = normalTable()
        for (case in cases("gaussian", 13)) {
            val channel = Channel.Gaussian(case.flag("additive"), case.number("largest_scale"))
            val levels = gaussian(case.bytes("mean"), case.bytes("scale"), case.bytes("noise"), channel, table)
            assertEquals(case.text("levels"), levels.toHexString())
        }
    }

    @Test
    fun upload() {
        val table = normalTable()
        for (case in cases("upload", 25)) {
            val picture = case.picture()
            val channel =
                if ("bits" in case) Channel.Dither(case.int("bits")) else Channel.Gaussian(case.flag("additive"), case.number("largest_scale"))
            val parameters = case.child("parameters")
            val q = parameters.keys.associateWith { parameters.bytes(it) }
            val given = q.values.fold(ByteArray(0), ByteArray::plus)
            val noise = keyedNoise(case.key(), case.bytes("contract"), given, picture.rgb, channel.noiseBytes(picture.rgb.size))
            assertEquals(case.text("noise"), noise.toHexString())
            assertEquals(case.text("packed"), pack(sample(channel, picture, q, noise, table), channel.bits).toHexString())
        }
    }

    @Test
    fun answer() {
        for (case in cases("answer", 45)) {
            val found = parseJson(writeJson(answerOf(case)).encodeToByteArray()).asObject("the answer")
            for (name in listOf("word", "state").filter(found::contains)) assertEquals(case.int(name), found.int(name))
            for (name in listOf("bytes", "packed")) assertEquals(case.text(name), found.text(name))
            assertEquals(case.list("decision"), found.list("decision"))
        }
    }

    @Test
    fun model() {
        val contract = bundle.contract
        assertEquals(5, bundle.vectors.model.size)
        assertEquals(contract.points.map { it.strength }, bundle.vectors.points.map { it.strength })
        for (case in bundle.vectors.model + bundle.vectors.points) {
            val picture = pattern(case.pattern, contract)
            val pixels = picture.bytes(contract.planes)
            assertEquals(case.imageSha256, imageHash(pixels).toHexString())
            val q = atStrength(contract.channel, case.parameters, case.strength, contract.height, contract.width)
            val given = contract.parameterBytes(q)
            val count = contract.code?.noiseBytes ?: contract.channel.noiseBytes(contract.samples)
            val noise = keyedNoise(case.key, case.contract, given, pixels, count)
            assertEquals(case.noiseSha256, sha256(noise))
            val levels = bundle.code?.let {
                wordImage(it.word(case.parameters.getValue(Contract.SCORES), noise), it.words, contract.height, contract.width)
            } ?: contract.code?.let { it.levels(it.draw(q.getValue("p"), noise)) } ?: sample(contract.channel, picture, q, noise, bundle.table)
            assertArrayEquals(case.uploadPacked, pack(levels, contract.channel.bits))
            val rate = contract.code?.rateBits(q.getValue("p")) ?: rateBits(contract.channel, q, contract.height, contract.width)
            rate?.let { assertEquals(case.rateBits, it, 1e-6) }
        }
    }

    @Test
    fun everyByteAtEveryPoint() {
        val every = mapOf("p" to ByteArray(256) { it.toByte() })
        for (case in root.childrenOrNull("points").orEmpty()) {
            val found = atStrength(Channel.Dither(1), every, case.int("strength"), 1, 256)
            assertEquals(case.text("bytes"), found.getValue("p").toHexString())
        }
    }

    @Test
    fun aDelegateThatComputesSomethingElseIsSeen() {
        val contract = bundle.contract
        val replayed = Replayed(bundle, off = 0)
        assertEquals(0, bundle.vectors.largestDifference(Perturber(bundle, replayed, FakeKeys()), contract))
        assertEquals(3, bundle.vectors.largestDifference(Perturber(bundle, Replayed(bundle, off = 3), FakeKeys()), contract))
    }

    @Test
    fun damagedVectorsAreRefused() {
        val text = vectorsBytes().decodeToString()
        val changes = listOf("sfumato-vectors/2" to "sfumato-vectors/9", "\"model\"" to "\"models\"", "\"key\":\"00" to "\"key\":\"zz", "{\"p\":\"" to "{\"p\":\"*")
        for ((old, new) in changes) {
            assertTrue(old, old in text)
            assertThrows(old, SfumatoException::class.java) { Vectors.parse(text.replace(old, new).encodeToByteArray()) }
        }
        assertThrows(SfumatoException::class.java) { Vectors.parse("""{"schema": "sfumato-vectors/2", "model": []}""".encodeToByteArray()) }
        assertThrows(SfumatoException::class.java) { pattern("photo", 4, 4) }
    }

    private fun cases(part: String, count: Int): List<JsonObject> = root.children(part).also { assertEquals(part, count, it.size) }
}

/** Plays the stored answers of the model back, some of them off by a little. */
private class Replayed(private val bundle: Bundle, private val off: Int) : LocalNetwork {
    private val contract = bundle.contract
    private var input = ByteArray(0)
    override val inputs = listOf(contract.input).map(::info)
    override val outputs = contract.outputs.map(::info)
    override val delegation: Delegation? = null

    override fun fill(input: ByteArray) {
        this.input = input
    }

    override fun invoke() = Unit

    override fun read(): List<ByteArray> {
        val digest = imageHash(flipTopBit(input)).toHexString()
        val case = bundle.vectors.model.single { it.imageSha256 == digest }
        return contract.outputs.map { spec ->
            flipTopBit(case.parameters.getValue(spec.name)).also {
                val lowest = it.indices.minBy(it::get) // where nothing overflows
                if (case.pattern == "ramp") it[lowest] = (it[lowest] + off).toByte()
            }
        }
    }

    override fun close() = Unit

    private fun info(spec: TensorSpec) =
        TensorInfo(spec.name, listOf(1, spec.height, spec.width, spec.planes), "int8", spec.scale.toFloat(), spec.zeroPoint)
}
