package dev.sfumato.core

import java.io.IOException
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

/** Recordings in place of photos; that their pictures are Python's, tests/android/test_languages.py finds out. */
class SoundTest {
    private val word = Recording.ofPcm16(8000, ShortArray(4000) { (9000 * Math.sin(it * it / 9000.0) * Math.sin(Math.PI * it / 4000)).toInt().toShort() })

    private fun bundle(change: Map<String, Any?>? = emptyMap()): Bundle {
        val parts = contractParts()
        if (change != null) parts["sound"] = RECIPE + change
        val files = mapOf(Contract.FILE to contractBytes(parts), "local_int8.tflite" to MODEL, "vectors.json" to vectorsBytes())
        return Bundle.open { files[it] ?: throw IOException(it) }
    }

    @Test
    fun aRecordingIsPerturbed() {
        val opened = bundle()
        assertTrue(opened.contract.sound)
        val perturber = Perturber(opened, FakeNetwork(), FakeKeys())
        val found = perturber.perturb(word)
        assertArrayEquals(soundPicture(word, SIDE, SIDE).rgb, found.input.rgb)
        assertArrayEquals(found.upload.content, perturber.perturb(word).upload.content)
        assertThrows(SfumatoException::class.java) { perturber.perturb(pattern("ramp", SIDE, SIDE)) }
    }

    @Test
    fun photosStayPhotos() {
        val opened = bundle(change = null)
        assertFalse(opened.contract.sound)
        assertThrows(SfumatoException::class.java) { Perturber(opened, FakeNetwork(), FakeKeys()).perturb(word) }
    }

    @Test
    fun anotherRecipeIsRefused() {
        for (change in listOf("version" to 2, "rate" to 16000, "hop" to 128, "lowest" to 5, "more" to 1)) {
            val refusal = assertThrows(change.first, SfumatoException::class.java) { bundle(mapOf(change)) }
            assertFalse("\n" in refusal.message!!)
        }
    }

    @Test
    fun loudnessMovesTheLastStepsAlone() {
        val quiet = Recording(8000, IntArray(word.samples.size) { word.samples[it] / 4 })
        val (one, two) = listOf(word, quiet).map { soundPicture(it, 32, 64).rgb }
        assertTrue(one.indices.filter { one[it].unsigned > 100 }.all { Math.abs(one[it].unsigned - two[it].unsigned) <= 3 })
        assertTrue(one.maxOf { it.unsigned } > 200)
    }

    @Test
    fun impossibleRecordingsAreRefused() {
        for (wrong in listOf({ Recording(7999, IntArray(5)) }, { Recording(8000, IntArray(0)) }, { Recording(8000, IntArray(128_001)) })) {
            assertThrows(SfumatoException::class.java) { wrong() }
        }
        assertThrows(SfumatoException::class.java) { soundPicture(word, 65, 64) }
        assertEquals(0, soundPicture(Recording(8000, IntArray(3)), 16, 16).rgb.maxOf { it.unsigned })
    }
}
