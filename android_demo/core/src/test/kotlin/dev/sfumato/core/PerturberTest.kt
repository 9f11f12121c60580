package dev.sfumato.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class PerturberTest {
    private val photo = pattern("ramp", 40, 50)

    @Test
    fun aModelOfOnePlaneSeesGreyAndSendsOnePlane() {
        val bundle = smallBundle(levels = 4, colours = 1)
        val network = FakeNetwork(planes = 2, colours = 1)
        val photo = pattern("ramp", 40, 24)
        val result = Perturber(bundle, network, FakeKeys()).perturb(photo)
        val rgb = photo.fit(SIDE, SIDE).rgb
        val plane = ByteArray(SIDE * SIDE) { i ->
            val (red, green, blue) = List(3) { rgb[3 * i + it].unsigned }
            Math.floor((19_595.0 * red + 38_470.0 * green + 7_471.0 * blue) / 65_536 + 0.5).toInt().toByte()
        }
        assertArrayEquals(flipTopBit(plane), network.input)
        val q = flipTopBit(network.answer(network.input))
        val drawn = dither(q, keyedNoise(KEY, bundle.contract.digest, q, plane, q.size), 2, colours = 1)
        assertArrayEquals(encodePng(drawn, SIDE, SIDE, 2, colours = 1), result.upload.content)
        assertEquals(plane.toList(), List(plane.size) { result.input.rgb[3 * it + 1] })
        assertEquals(3 * SIDE * SIDE, result.drawn.rgb.size)
        assertArrayEquals(drawId(KEY, bundle.contract.digest, q, plane), result.draw)
    }

    @Test
    fun aPhotoBecomesTheUploadThatItsPartsGive() {
        for ((levels, bits) in listOf(2 to 1, 4 to 2, 16 to 4)) {
            val network = FakeNetwork(planes = 3 * bits)
            var now = 0L
            val result = Perturber(smallBundle(levels), network, FakeKeys()) { (now++) * 1_000_000 }.perturb(photo)
            val input = photo.fit(SIDE, SIDE)
            assertArrayEquals(flipTopBit(input.rgb), network.input)
            val q = flipTopBit(network.answer(network.input))
            val drawn = dither(q, keyedNoise(KEY, smallContract(levels).digest, q, input.rgb, q.size), bits)
            assertArrayEquals(encodePng(drawn, SIDE, SIDE, bits), result.upload.content)
            assertArrayEquals(drawn, ByteArray(drawn.size) { ((result.drawn.rgb[it].toInt() and 0xFF) / (255 / (levels - 1))).toByte() })
            assertEquals(StageTimes(1.0, 1.0, 1.0, 1.0), result.times)
            assertEquals(ditherRateBits(q), result.rateBits!!, 0.0)
            assertEquals(SIDE * SIDE, result.noiseMap!!.size)
        }
    }

    @Test
    fun anUploadOfFewerSamplesIsDrawnAndShownInItsOwnSize() {
        for (side in listOf(2, 4)) {
            val (bundle, network) = smallBundle(levels = 4, subsample = side) to FakeNetwork(planes = 6, side = side * SIDE)
            val result = Perturber(bundle, network, FakeKeys()).perturb(photo)
            val input = photo.fit(side * SIDE, side * SIDE)
            assertArrayEquals(flipTopBit(input.rgb), network.input)
            val q = flipTopBit(network.answer(network.input))
            val drawn = dither(q, keyedNoise(KEY, bundle.contract.digest, q, input.rgb, q.size), 2)
            assertArrayEquals(encodePng(drawn, SIDE, SIDE, 2), result.upload.content)
            assertEquals(listOf(SIDE, SIDE), listOf(result.drawn.height, result.drawn.width))
            assertEquals(listOf(side * SIDE, side * SIDE), listOf(result.input.height, result.input.width))
            assertEquals(SIDE * SIDE, result.noiseMap!!.size)
            assertEquals(ditherRateBits(q), result.rateBits!!, 0.0)
        }
    }

    @Test
    fun theSamePhotoGivesTheSameUploadUntilTheKeyIsReset() {
        val keys = FakeKeys()
        val perturber = Perturber(smallBundle(), FakeNetwork(), keys)
        val first = perturber.perturb(photo).upload.content
        assertArrayEquals(first, perturber.perturb(photo).upload.content)
        keys.reset()
        assertFalse(first.contentEquals(perturber.perturb(photo).upload.content))
    }

    @Test
    fun aPhotoUnlikeTheOrdinaryOnesIsFlagged() {
        val plain = Perturber(smallBundle(), FakeNetwork(), FakeKeys()).perturb(photo)
        assertEquals(null, plain.unlike)
        val like = Familiar(features(plain.input), List(43) { 0.5 }, limit = 1e-6)
        val (same, other) = listOf(photo, pattern("checks", 40, 50)).map { it.fit(SIDE, SIDE) }
        assertEquals(listOf(false, true), listOf(same, other).map(like::unlike))
        assertEquals(0.0, like.distance(same), 0.0)
        for (strange in listOf(false, true)) {
            val bundle = smallBundle(familiar = if (strange) like.copy(means = List(43) { 9.0 }) else like)
            val flagged = Perturber(bundle, FakeNetwork(), FakeKeys()).perturb(photo)
            assertEquals(strange, flagged.unlike)
            assertEquals(plain.upload.content.size, flagged.upload.content.size)
        }
    }

    @Test
    fun anUploadIsDrawnAtTheStrengthOfAPoint() {
        val bundle = smallBundle(points = points(128, 64, 1))
        val perturber = Perturber(bundle, FakeNetwork(), FakeKeys())
        val full = perturber.perturb(photo)
        assertArrayEquals(full.upload.content, perturber.perturb(photo, 128).upload.content)
        val network = perturber.parameters(full.input).getValue("p")
        val q = ByteArray(network.size) { (128 + Math.floorDiv(((network[it].toInt() and 0xFF) - 128) * 64 + 64, 128)).toByte() }
        val noise = keyedNoise(KEY, bundle.contract.digest, q, full.input.rgb, q.size)
        val half = perturber.perturb(photo, 64)
        assertArrayEquals(encodePng(dither(q, noise, 1), SIDE, SIDE, 1), half.upload.content)
        assertEquals(ditherRateBits(q), half.rateBits!!, 0.0)
        assertArrayEquals(drawId(KEY, bundle.contract.digest, q, full.input.rgb), half.draw)
        assertTrue(half.rateBits < full.rateBits!! && !half.draw.contentEquals(full.draw))
        val error = assertThrows(SfumatoException::class.java) { perturber.perturb(photo, 65) }
        assertEquals("this export has no point of strength 65: it has 128, 64, 1", error.message)
        val plain = Perturber(smallBundle(), FakeNetwork(), FakeKeys())
        assertThrows(SfumatoException::class.java) { plain.perturb(photo, 64) }
    }

    @Test
    fun closedBlocksStayClosedAtEveryStrength() {
        val q = ByteArray(8 * 16 * 3) { if (it / 3 % 16 < 8) 0 else (it % 7).toByte() }
        val found = atStrength(Channel.Dither(1, gates = true), mapOf("p" to q), 64, 8, 16).getValue("p")
        for (i in q.indices) {
            val open = i / 3 % 16 >= 8
            assertEquals(if (open) (128 + Math.floorDiv((i % 7 - 128) * 64 + 64, 128)).toByte() else 0.toByte(), found[i])
        }
        assertEquals(2 + ditherRateBits(found.filter { it != 0.toByte() }.toByteArray()), blockRateBits(found, 8, 16), 1e-9)
    }

    @Test
    fun aNetworkThatDoesNotFitIsRefused() {
        assertThrows(SfumatoException::class.java) { Perturber(smallBundle(levels = 4), FakeNetwork(planes = 3), FakeKeys()) }
    }

    @Test
    fun theNoiseMapIsBrightWhereEveryBitIsACoin() {
        val q = ByteArray(SIDE * SIDE * 3) { if (it / 3 % 2 == 0) 128.toByte() else 3 }
        val map = noiseMap(mapOf("p" to q), Channel.Dither(1))
        assertEquals(listOf(255, 0), map.take(2).map { it.toInt() and 0xFF })
        val closed = ByteArray(SIDE * SIDE * 3) { if (it / 3 % 2 == 0) 0 else 3 }
        assertEquals(listOf<Byte>(-1, 0), noiseMap(mapOf("p" to closed), Channel.Dither(1, gates = true)).take(2))
        assertEquals(listOf<Byte>(0, -1), noiseMap(mapOf("p" to closed), Channel.Dither(1)).take(2))
        val scale = ByteArray(SIDE * SIDE * 3) { if (it / 3 % 2 == 0) 200.toByte() else 10 }
        assertEquals(listOf<Byte>(-1, 0), noiseMap(mapOf("scale" to scale), Channel.Gaussian(true, 0.5)).take(2))
        assertEquals(setOf<Byte>(0), noiseMap(mapOf("scale" to ByteArray(SIDE * SIDE * 3)), Channel.Gaussian(true, 0.5)).toSet())
    }

    @Test
    fun aRateCountsBits() {
        assertEquals(0.0, ditherRateBits(ByteArray(30) { 128.toByte() }), 0.0)
        assertEquals(30.0, ditherRateBits(ByteArray(30)), 1e-12)
        val largest = ByteArray(192) { -1 }
        assertEquals(192.0, ditherRateBits(largest, gray = true), 1e-9)
        assertEquals(193.0, rateBits(Channel.Dither(1, gates = true, gray = true), mapOf("p" to largest), 8, 8)!!, 1e-9)
        assertTrue(ditherRateBits(largest) < 190)
    }

    @Test
    fun aRateOfBlocksCountsTheOpenOnes() {
        val q = ByteArray(SIDE * SIDE * 3) { 40 }
        val whole = blockRateBits(q, SIDE, SIDE)
        assertEquals(ditherRateBits(q) + SIDE * SIDE / 64, whole, 1e-9)
        for (y in 8 until 16) for (x in 0 until 8) for (c in 0 until 3) q[(y * SIDE + x) * 3 + c] = 0
        assertEquals(whole - ditherRateBits(ByteArray(192) { 40 }), blockRateBits(q, SIDE, SIDE), 1e-9)
        q[(8 * SIDE + 3) * 3] = 1  // one byte opens it
        assertEquals(ditherRateBits(q) + SIDE * SIDE / 64, blockRateBits(q, SIDE, SIDE), 1e-9)
    }

    @Test
    fun theLogTellsWhatADelegateTook() {
        val lines = listOf(
            "I/tflite  ( 4242): Created TensorFlow Lite XNNPACK delegate for CPU.",
            "I/tflite  ( 4242): Replacing 40 out of 42 node(s) with delegate (TfLiteNnapiDelegate) node, yielding 3 partitions for subgraph 0.",
            "I/tflite  ( 4242): Replacing 2 out of 3 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 2 partitions for subgraph 0.",
            "I/tflite  ( 4242): Replacing 5 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 partitions.",
        )
        assertEquals(Delegation(42, 40, 3), Delegation.fromLog(lines, Accelerator.NNAPI))
        assertEquals(Delegation(3, 2, 2), Delegation.fromLog(lines, Accelerator.CPU))
        assertEquals(Delegation(null, 5, 1), Delegation.fromLog(lines, Accelerator.GPU))
        assertEquals(null, Delegation.fromLog(lines.take(1), Accelerator.CPU))
        val ofTheCpuAlone = listOf(lines[0], lines[2])
        assertEquals(listOf(null, null, null), listOf(Accelerator.NNAPI, Accelerator.GPU, Accelerator.NPU).map { Delegation.fromLog(ofTheCpuAlone, it) })
    }
}
