/**
 * Answer mode, version 1 (docs/contract.md, "Answer"): what travels is the code word of the phone's own decision, and nothing
 * near it. Scores are bytes q = int8 + 128, those of all kept attributes one after the other; integers alone, as in Python.
 *
 *     val code = AnswerCode(listOf(9, 2), margins, table)
 *     val word = code.word(q, noise)
 *     val content = wordBytes(word, code.words)
 */
package dev.sfumato.core

import java.nio.ByteBuffer
import java.nio.ByteOrder

private const val GRID = 4
private const val TOTAL = 65_536
private const val MOST_WORDS = 65_536

/** What travels of an answer: [number], one of [words], and in [labels] the class of every kept attribute that it stands for. */
public data class CodeWord(
    val number: Int,
    val words: Int,
    val labels: Map<String, String>,
    /** It was drawn by a table, so it need not be the phone's own decision. */
    val randomised: Boolean,
)

/** What the phone decided about one attribute: best class, best of the others, distance of their scores in int8 steps. */
internal data class Decision(val first: Int, val second: Int, val margin: Int)

/**
 * From scores to the word that stands for them.
 *
 * [classes] are the class counts of the kept attributes. Without [table] the word is the decision itself; with it (the randomised
 * answer) two bytes of keyed noise choose the word by the cumulative counts of the decision's state.
 */
internal class AnswerCode(private val classes: List<Int>, private val margins: List<Int>, table: ByteArray?) {
    /** N: no photo tells more than log2 N bits. */
    val words = wordCount(classes)

    private val counts: IntArray? = table?.let(::readTable)

    /** The word for the scores [q]; the two noise bytes count where there is a table. */
    fun word(q: ByteArray, noise: ByteArray): Int {
        requireNoise(noise, Channel.Answer.noiseBytes(q.size))
        val decision = decide(q)
        if (counts == null) return plainWord(decision)
        val start = state(decision) * words
        return drawWord(counts.copyOfRange(start, start + words), noise)
    }

    /** The word for the scores [q], with what it says about the attributes [keep]. */
    fun codeWord(q: ByteArray, noise: ByteArray, keep: List<Kept>): CodeWord {
        val number = word(q, noise)
        var rest = number
        val labels = keep.asReversed().map { (name, labels) -> (name to labels[rest % labels.size]).also { rest /= labels.size } }
        return CodeWord(number, words, labels.asReversed().toMap(), counts != null)
    }

    /** Best class, runner-up and margin of every attribute; of equal scores the first counts. */
    fun decide(q: ByteArray): List<Decision> {
        if (q.size != classes.sum()) throw SfumatoException("a decision needs ${classes.sum()} scores, not ${q.size}")
        var start = 0
        return classes.map { count ->
            val part = IntArray(count) { q[start + it].unsigned }
            start += count
            val first = part.indices.maxBy { part[it] } // the first of equals
            val second = part.indices.filter { it != first }.maxBy { part[it] }
            Decision(first, second, part[first] - part[second])
        }
    }

    /** The best classes in mixed radix, the first attribute most significant. */
    fun plainWord(decision: List<Decision>): Int = mixed(decision.map { it.first }, classes)

    /** The row of the table that a decision falls into. */
    fun state(decision: List<Decision>): Int {
        val bins = margins.size + 1
        val digits = decision.zip(classes) { (first, second, margin), count ->
            val place = if (second < first) second else second - 1
            (first * (count - 1) + place) * bins + margins.count { it <= margin }
        }
        return mixed(digits, classes.map { it * (it - 1) * bins })
    }

    private fun readTable(content: ByteArray): IntArray {
        val states = classes.fold(1L) { product, count -> Math.multiplyExact(product, count.toLong() * (count - 1) * (margins.size + 1)) }
        if (content.size.toLong() != Math.multiplyExact(states, 4L * words)) {
            throw SfumatoException("$TABLE has ${content.size} bytes, $states states and $words words need others: export again")
        }
        val table = IntArray(content.size / 4).also { ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN).asIntBuffer().get(it) }
        for (i in table.indices) {
            val rises = if (i % words == 0) table[i] >= 0 else table[i] >= table[i - 1]
            if (!rises || (i % words == words - 1 && table[i] != TOTAL)) {
                throw SfumatoException("$TABLE: a row's counts do not rise to $TOTAL: export again")
            }
        }
        return table
    }

    companion object {
        private const val TABLE = "answer_table.bin"

        /** As a contract has it; [read] gives the checked content of a file. */
        fun of(contract: Contract, answer: AnswerSpec, read: (String) -> ByteArray) =
            AnswerCode(contract.keep.map { it.classes.size }, answer.margins, answer.table?.let(read))

        /** The number of words for these class counts; refused where an attribute has one class, or two bytes do not hold a word. */
        fun wordCount(classes: List<Int>): Int {
            val words = classes.fold(1L) { product, count -> minOf(product * count, MOST_WORDS + 1L) }
            if (classes.isEmpty() || classes.min() < 2 || words > MOST_WORDS) {
                throw SfumatoException("answer mode takes attributes of two classes or more, and $MOST_WORDS words at most")
            }
            return words.toInt()
        }
    }
}

/** The word that two noise bytes choose from a [row] of cumulative counts: how many do not exceed them. */
internal fun drawWord(row: IntArray, noise: ByteArray): Int {
    val u = noise[0].unsigned + 256 * noise[1].unsigned
    return row.count { it <= u }
}

/** A word as it travels: one byte up to 256 words, else two, the first more significant. */
internal fun wordBytes(word: Int, words: Int): ByteArray {
    demandWord(word, words)
    return if (words <= 256) byteArrayOf(word.toByte()) else byteArrayOf((word shr 8).toByte(), word.toByte())
}

/**
 * The word as levels 0 or 1 in the order row, column, colour: 4 x 4 cells a colour, cell (row * 4 + column) * 3 + colour shows bit
 * `cell mod n` of n, the first bit the most significant.
 */
internal fun wordImage(word: Int, words: Int, height: Int, width: Int): ByteArray {
    demandWord(word, words)
    val bits = 32 - Integer.numberOfLeadingZeros(words - 1)
    return ByteArray(height * width * 3) { i ->
        val cell = ((i / 3 / width * GRID / height) * GRID + i / 3 % width * GRID / width) * 3 + i % 3
        (word shr (bits - 1 - cell % bits) and 1).toByte()
    }
}

private fun demandWord(word: Int, words: Int) {
    if (word !in 0 until words) throw SfumatoException("there is no word $word: this model has the words 0 to ${words - 1}")
}

private fun mixed(digits: List<Int>, bases: List<Int>): Int = digits.zip(bases).fold(0) { number, (digit, base) -> number * base + digit }
