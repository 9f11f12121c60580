/** What was sent: a short list for the user, on this phone alone. It holds neither photos nor uploads. */
package dev.sfumato.demo

/** An upload that was answered: when, by which server, at most how many bits it told (null: no bound), and the answer. */
data class Sent(val millis: Long, val service: String, val bits: Double?, val answer: String)

/** The list, newest first. */
interface History {
    fun read(): List<Sent>

    /** Put one in front, drop what is beyond [MOST] and return the list. */
    fun add(sent: Sent): List<Sent>

    fun delete()

    companion object {
        const val MOST = 50
    }
}

/** The list in a [SecretFile]: answers about photos are nobody else's business. One line each. */
class StoredHistory(private val file: SecretFile) : History {
    @Synchronized
    override fun read(): List<Sent> = file.read()?.decodeToString()?.lines().orEmpty().mapNotNull(::parse)

    @Synchronized
    override fun add(sent: Sent): List<Sent> {
        val kept = (listOf(sent) + read()).take(History.MOST)
        file.write(kept.joinToString("\n", transform = ::line).encodeToByteArray())
        return kept
    }

    @Synchronized
    override fun delete() = file.delete()

    private fun line(sent: Sent): String =
        listOf(sent.millis, sent.bits ?: "", sent.service, sent.answer).joinToString("\t") { field ->
            field.toString().map { if (it.isISOControl()) ' ' else it }.joinToString("")
        }

    private fun parse(line: String): Sent? {
        val fields = line.split('\t')
        val millis = fields.first().toLongOrNull()
        return if (millis == null || fields.size != 4) null else Sent(millis, fields[2], fields[1].toDoubleOrNull(), fields[3])
    }
}
