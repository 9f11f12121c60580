package dev.sfumato.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

/** What vectors.json cannot hold: whole bundles, and what is refused. */
class AnswerTest {
    private val photo = pattern("ramp", 40, 50)
    private val classes = listOf(3, 2)

    /** Cumulative counts that give each of six words a sixth, in every one of the 3 * 2 * 2 * 1 states. */
    private val even = table(List(12) { List(6) { word -> 65_536 * (word + 1) / 6 } })

    private fun table(rows: List<List<Int>>): ByteArray {
        val bytes = ByteBuffer.allocate(4 * rows.sumOf { it.size }).order(ByteOrder.LITTLE_ENDIAN)
        rows.flatten().forEach(bytes::putInt)
        return bytes.array()
    }

    private fun refused(words: String, action: () -> Unit) {
        val error = assertThrows(words, SfumatoException::class.java) { action() }
        assertTrue("$words is not in: ${error.message}", words in error.message.orEmpty())
    }

    @Test
    fun aPhotoBecomesTheWordOfItsDecision() {
        val network = ScoresNetwork(byteArrayOf(3, 90, 90, -100, -99))
        val result = Perturber(answerBundle(null), network, FakeKeys()).perturb(photo)
        assertArrayEquals(flipTopBit(photo.fit(SIDE, SIDE).rgb), network.input)
        // Class 1 of three before its equal, class 1 of two: 1 * 2 + 1.
        assertEquals(CodeWord(3, 6, mapOf("age" to "middle", "glasses" to "yes"), randomised = false), result.word)
        assertArrayEquals(byteArrayOf(3), result.upload.content)
        assertEquals(Encoding.WORD, result.upload.encoding)
        assertEquals("application/vnd.sfumato.word", result.upload.encoding.mediaType)
        assertEquals(2.584962500721156, result.rateBits!!, 1e-12)
        assertNull(result.noiseMap)
        val shown = wordImage(3, 6, SIDE, SIDE)
        assertArrayEquals(ByteArray(shown.size) { (shown[it] * 255).toByte() }, result.drawn.rgb)
    }

    @Test
    fun theWordMayTravelAsItsImage() {
        val network = ScoresNetwork(byteArrayOf(3, 90, 90, -100, -99))
        val image = wordImage(3, 6, SIDE, SIDE)
        for ((encoding, content) in mapOf(Encoding.PNG to encodePng(image, SIDE, SIDE, 1), Encoding.PACKED to pack(image, 1))) {
            val upload = Perturber(answerBundle(null), network, FakeKeys(), encoding).perturb(photo).upload
            assertArrayEquals(content, upload.content)
            assertEquals(encoding, upload.encoding)
        }
        refused("no code words") { Perturber(smallBundle(), FakeNetwork(), FakeKeys(), Encoding.WORD) }
    }

    @Test
    fun aRandomisedAnswerIsDrawnByTheKeyAndIsTheSameAgain() {
        val bundle = answerBundle(even)
        val scores = byteArrayOf(3, 90, 90, -100, -99)
        val words = (0 until 60).map { i ->
            val keys = FakeKeys(DeviceKey(ByteArray(DeviceKey.BYTES) { i.toByte() }))
            val perturber = Perturber(bundle, ScoresNetwork(scores), keys)
            val first = perturber.perturb(photo).word!!
            assertEquals(first, perturber.perturb(photo).word)
            assertTrue(first.randomised)
            val input = photo.fit(SIDE, SIDE)
            val noise = keyedNoise(keys.get(), bundle.contract.digest, flipTopBit(scores), input.rgb, 2)
            assertEquals((noise[0].unsigned + 256 * noise[1].unsigned) / (65_536.0 / 6), first.number + 0.5, 0.51)
            first.number
        }
        assertEquals((0..5).toSet(), words.toSet())
    }

    @Test
    fun aTableThatCannotBeIsRefused() {
        refused("has 284 bytes") { AnswerCode(classes, emptyList(), even.copyOf(even.size - 4)) }
        refused("has 288 bytes") { AnswerCode(classes, listOf(5), even) }
        val falling = List(12) { listOf(10, 9, 20, 30, 40, 65_536) }
        refused("do not rise") { AnswerCode(classes, emptyList(), table(falling)) }
        refused("do not rise") { AnswerCode(classes, emptyList(), table(List(12) { List(6) { 65_535 } })) }
        refused("do not rise") { AnswerCode(classes, emptyList(), table(List(12) { listOf(-1, 0, 0, 0, 0, 65_536) })) }
        refused("sha256 differs") { answerBundle(even, served = even.copyOf().also { it[0] = 9 }) }
    }

    @Test
    fun whatIsNoAnswerIsRefused() {
        val code = AnswerCode(classes, emptyList(), null)
        refused("5 scores, not 4") { code.decide(ByteArray(4)) }
        refused("2 noise bytes, not 1") { code.word(ByteArray(5), ByteArray(1)) }
        for (word in listOf(-1, 6)) {
            refused("no word $word") { wordBytes(word, 6) }
            refused("words 0 to 5") { wordImage(word, 6, SIDE, SIDE) }
        }
        for (counts in listOf(emptyList(), listOf(1), listOf(256, 257), List(40) { 9 })) refused("65536 words") { AnswerCode.wordCount(counts) }
        assertEquals(65_536, AnswerCode.wordCount(listOf(256, 256)))
    }

    @Test
    fun bytesOfAWord() {
        assertArrayEquals(byteArrayOf(-1), wordBytes(255, 256))
        assertArrayEquals(byteArrayOf(1, 0), wordBytes(256, 257))
        assertArrayEquals(byteArrayOf(-1, -1), wordBytes(65_535, 65_536))
    }
}
