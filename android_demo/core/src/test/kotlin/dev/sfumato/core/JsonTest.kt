package dev.sfumato.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class JsonTest {
    private fun parse(text: String) = parseJson(text.encodeToByteArray())

    @Test
    fun everyKindOfValueIsRead() {
        val text = """ {"a": [1, -2.5e1, true, false, null], "b": {"c": "x\n\u00e9\\\"ü"}, "d": {}, "e": []} """
        val expected = mapOf(
            "a" to listOf(1L, -25.0, true, false, null),
            "b" to mapOf("c" to "x\né\\\"ü"),
            "d" to emptyMap<String, Any?>(),
            "e" to emptyList<Any?>(),
        )
        assertEquals(expected, parse(text))
    }

    @Test
    fun whatIsWrittenIsReadAgain() {
        val value = mapOf("text" to "tab\t \"quoted\" \\ ü\u0001", "list" to listOf(1L, 2.5, null, true), "empty" to emptyList<Any?>())
        assertEquals(value, parse(writeJson(value)))
        assertEquals("[1,2]", writeJson(longArrayOf(1, 2)))
    }

    @Test
    fun whatIsNoJsonIsRefused() {
        val wrong = listOf(
            "", " ", "{", "[1,]", "[1 2]", "{\"a\":1,}", "{a:1}", "{\"a\" 1}", "{\"a\":1,\"a\":2}", "01", "1.", ".5", "+1", "1e999", "NaN",
            "Infinity", "truth", "nul", "\"a", "\"\\x\"", "\"\\u12g4\"", "\"\\u+123\"", "\"\t\"", "1 1", "// no\n1", "'a'", "[".repeat(50) + "]".repeat(50),
            "99999999999999999999",
        )
        for (text in wrong) assertThrows(text, SfumatoException::class.java) { parse(text) }
        assertThrows(SfumatoException::class.java) { parseJson(byteArrayOf('"'.code.toByte(), 0xFF.toByte(), '"'.code.toByte())) }
    }

    @Test
    fun anObjectSaysWhatItMissesAndRefusesWhatNobodyAskedFor() {
        val read = parse("""{"a": 1, "b": "x", "c": [1], "d": 1.5}""").asObject("here")
        assertEquals(1, read.int("a"))
        assertEquals("here: b must be a whole number", assertThrows(SfumatoException::class.java) { read.whole("b") }.message)
        assertThrows(SfumatoException::class.java) { read.text("missing") }
        assertThrows(SfumatoException::class.java) { read.int("d") }
        val error = assertThrows(SfumatoException::class.java) { read.refuseOthers() }
        assertEquals("here: unknown key c: update the app", error.message)
        read.list("c")
        read.refuseOthers()
    }
}
