/**
 * A strict JSON reader and a small writer: Android's own parser is not on a JVM, and it forgives what a contract must not.
 *
 * Refused are repeated keys, NaN, comments, anything after the value, and nesting beyond [DEPTH] levels. Numbers without fraction
 * and exponent become [Long], others [Double].
 *
 *     val contract = parseJson(bytes).asObject("contract.json")
 *     contract.text("schema")
 *     contract.refuseOthers()
 */
package dev.sfumato.core

private const val DEPTH = 32

/** Read the UTF-8 text of one JSON value: [Map], [List], [String], [Long], [Double], [Boolean] or null. */
internal fun parseJson(bytes: ByteArray, name: String = "the text"): Any? =
    try {
        JsonParser(bytes.decodeToString(throwOnInvalidSequence = true)).whole()
    } catch (error: CharacterCodingException) {
        throw SfumatoException("$name is not UTF-8 text")
    } catch (error: JsonError) {
        throw SfumatoException("$name is not valid JSON (${error.message})")
    }

/** The JSON text of a value made of maps, lists, text, numbers, booleans and null. */
internal fun writeJson(value: Any?): String = buildString { writeTo(this, value) }

/** A JSON object that remembers where it stands and which keys were asked for. */
internal class JsonObject(private val where: String, private val values: Map<*, *>) {
    private val asked = mutableSetOf<String>()

    fun text(key: String): String = typed(key, "text")

    fun flag(key: String): Boolean = typed(key, "true or false")

    fun number(key: String): Double = typed<Number>(key, "a number").toDouble()

    fun whole(key: String): Long = typed(key, "a whole number")

    fun int(key: String): Int = whole(key).let {
        if (it in Int.MIN_VALUE..Int.MAX_VALUE) it.toInt() else fail(key, "a whole number of 32 bits")
    }

    fun list(key: String): List<Any?> = typed(key, "a list")

    fun map(key: String): Map<*, *> = typed(key, "an object")

    fun child(key: String): JsonObject = JsonObject("$where: $key", map(key))

    fun flagOrNull(key: String): Boolean? = if (isNull(key)) null else flag(key)

    fun intOrNull(key: String): Int? = if (isNull(key)) null else int(key)

    fun textOrNull(key: String): String? = if (isNull(key)) null else text(key)

    fun wholeOrNull(key: String): Long? = if (isNull(key)) null else whole(key)

    fun numberOrNull(key: String): Double? = if (isNull(key)) null else number(key)

    fun childOrNull(key: String): JsonObject? = if (isNull(key)) null else child(key)

    fun children(key: String): List<JsonObject> =
        list(key).mapIndexed { i, value -> value.asObject("$where: $key[$i]") }

    fun childrenOrNull(key: String): List<JsonObject>? = if (isNull(key)) null else children(key)

    fun numbersOrNull(key: String): List<Double>? =
        if (isNull(key)) null else list(key).map { (it as? Number)?.toDouble() ?: fail(key, "a list of numbers") }

    fun texts(key: String): List<String> = list(key).map { it as? String ?: fail(key, "a list of texts") }

    /** Whether the key is there at all; then it counts as asked for. */
    operator fun contains(key: String): Boolean = (key in values).also { if (it) asked += key }

    val keys: Set<String> get() = values.keys.mapTo(mutableSetOf()) { it as String }

    /** A key nobody asked for is a promise this reader does not understand. */
    fun refuseOthers() {
        val unknown = keys - asked
        if (unknown.isNotEmpty()) throw SfumatoException("$where: unknown key ${unknown.sorted().joinToString()}: update the app")
    }

    /** Whether the key is left out or null, which mean the same. */
    private fun isNull(key: String): Boolean = (values[key] == null).also { asked += key }

    private inline fun <reified T> typed(key: String, expected: String): T {
        asked += key
        return values[key] as? T ?: fail(key, expected)
    }

    private fun fail(key: String, expected: String): Nothing = throw SfumatoException("$where: $key must be $expected")
}

/** This value as an object, or an error that names it. */
internal fun Any?.asObject(where: String): JsonObject =
    JsonObject(where, this as? Map<*, *> ?: throw SfumatoException("$where must be an object"))

private class JsonError(message: String) : Exception(message)

private class JsonParser(private val text: String) {
    private var at = 0

    fun whole(): Any? {
        val value = value(0)
        space()
        if (at < text.length) fail("something follows the value")
        return value
    }

    private fun value(depth: Int): Any? {
        if (depth > DEPTH) fail("nested too deeply")
        space()
        return when (peek()) {
            '{' -> members(depth)
            '[' -> elements(depth)
            '"' -> string()
            't' -> word("true", true)
            'f' -> word("false", false)
            'n' -> word("null", null)
            else -> number()
        }
    }

    private fun members(depth: Int): Map<String, Any?> {
        val found = linkedMapOf<String, Any?>()
        sequence('}') {
            space()
            if (peek() != '"') fail("a key must be text")
            val key = string()
            space()
            expect(':')
            if (key in found) fail("the key \"$key\" is there twice")
            found[key] = value(depth + 1)
        }
        return found
    }

    private fun elements(depth: Int): List<Any?> {
        val found = mutableListOf<Any?>()
        sequence(']') { found += value(depth + 1) }
        return found
    }

    /** What stands between brackets: nothing, or items with commas between them. */
    private fun sequence(end: Char, item: () -> Unit) {
        at++
        space()
        if (peek() == end) {
            at++
            return
        }
        while (true) {
            item()
            space()
            if (peek() == end) {
                at++
                return
            }
            expect(',')
        }
    }

    private fun string(): String {
        at++
        val found = StringBuilder()
        while (true) {
            when (val char = next()) {
                '"' -> return found.toString()
                '\\' -> found.append(escaped())
                else -> if (char < ' ') fail("a control character in a text") else found.append(char)
            }
        }
    }

    private fun escaped(): Char = when (val char = next()) {
        '"', '\\', '/' -> char
        'b' -> '\b'
        'f' -> '\u000C'
        'n' -> '\n'
        'r' -> '\r'
        't' -> '\t'
        'u' -> {
            if (at + 4 > text.length) fail("it ends early")
            val digits = text.substring(at, at + 4)
            if (digits.any { it !in HEX }) fail("a broken escape")
            at += 4
            digits.toInt(16).toChar()
        }
        else -> fail("a broken escape")
    }

    private fun number(): Any {
        val match = NUMBER.matchAt(text, at) ?: fail(if (at < text.length) "unexpected '${text[at]}'" else "it ends early")
        at = match.range.last + 1
        val digits = match.value
        if (digits.any { it in ".eE" }) {
            return digits.toDouble().also { if (it.isInfinite()) fail("a number too large") }
        }
        return digits.toLongOrNull() ?: fail("a number too large")
    }

    private fun <T> word(word: String, value: T): T {
        if (!text.startsWith(word, at)) fail("unexpected '${text[at]}'")
        at += word.length
        return value
    }

    private fun space() {
        while (at < text.length && text[at] in " \t\r\n") at++
    }

    private fun peek(): Char? = text.getOrNull(at)

    private fun next(): Char = if (at < text.length) text[at++] else fail("it ends early")

    private fun expect(char: Char) {
        if (peek() != char) fail("'$char' is missing")
        at++
    }

    private fun fail(reason: String): Nothing = throw JsonError("$reason at character $at")

    private companion object {
        const val HEX = "0123456789abcdefABCDEF"
        val NUMBER = Regex("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?")
    }
}

private fun writeTo(out: StringBuilder, value: Any?) {
    when (value) {
        null, is Boolean, is Int, is Long -> out.append(value)
        is Double -> require(value.isFinite()) { "JSON has no $value" }.also { out.append(value) }
        is String -> quote(out, value)
        is Map<*, *> -> value.entries.joinTo(out, ",", "{", "}") { (key, item) -> "${writeJson(key as String)}:${writeJson(item)}" }
        is Iterable<*> -> value.joinTo(out, ",", "[", "]", transform = ::writeJson)
        is LongArray -> value.joinTo(out, ",", "[", "]")
        else -> throw IllegalArgumentException("JSON has no ${value::class}")
    }
}

private fun quote(out: StringBuilder, text: String) {
    out.append('"')
    for (char in text) {
        when {
            char == '"' || char == '\\' -> out.append('\\').append(char)
            char < ' ' || char.isSurrogate() -> out.append("\\u").append(char.code.toString(16).padStart(4, '0'))
            else -> out.append(char)
        }
    }
    out.append('"')
}
