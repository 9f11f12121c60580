/**
 * A file of entries that only grows, where a missing, changed or older piece is noticed: a chain of MACs with an anchor, as in
 * sfumato.runtime.sealed_log, in the same bytes (docs/ledger.md).
 *
 *     val log = SealedLog(File(folder, "ledger"), key, { mapOf("kind" to "open") }) { entry -> book.apply(entry) }
 *
 * A line is a JSON object, a space and HMAC(key, "line" || MAC of the line before || object) in hexadecimal. The anchor, a second
 * file, holds the number of lines and the last MAC, under the key as well. A line is on the disk before its anchor: after a crash at
 * most the last lines have none, and an unfinished one is cut off. Anything else is an error that says what to do.
 */
package dev.sfumato.core

import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.channels.ClosedByInterruptException
import java.nio.channels.FileLockInterruptionException
import java.nio.channels.OverlappingFileLockException
import java.security.MessageDigest

private const val MAC_BYTES = 32
private const val DIGITS = 2 * MAC_BYTES
private const val FIRST_LINE = 256
private const val REPAIR = "repair the account, which keeps what is whole and notes that entries were lost"

/** The account is not what was written, or cannot be written: nothing may be sent. */
public class LogException(message: String) : SfumatoException(message)

/**
 * One log in one file. Safe to use from several threads and processes; two logs of one file in one process are not for use at once.
 * A thread that is interrupted before it has the file is refused and stays interrupted; once it has the file, its work is finished.
 */
internal class SealedLog<B>(
    private val file: File,
    private val key: ByteArray,
    private val newBook: () -> B,
    private val take: (B, JsonObject) -> Unit,
    private val opening: () -> Map<String, Any?>,
) {
    private val anchor = File(file.path + ".anchor")
    private val fingerprint = seal("name").copyOf(8).toHexString()
    private var book = newBook()
    private var lines = 0
    private var end = 0L
    private var mac = ByteArray(MAC_BYTES)
    private lateinit var stream: RandomAccessFile

    /** The book with every entry, while nobody else can add one. */
    @Synchronized
    fun <T> held(work: (B) -> T): T = locked {
        try {
            catchUp()
            work(book)
        } catch (error: Throwable) {
            forget() // the book may hold what the file does not: read it anew
            throw error
        }
    }

    /** Add an entry, while the log is held: it is in the book, and on the disk, when this returns. */
    fun append(entry: Map<String, Any?>) {
        val text = writeJson(entry).encodeToByteArray()
        mac = seal("line", mac, text)
        take(book, parseJson(text).asObject("the entry"))
        val line = text + " ${mac.toHexString()}\n".encodeToByteArray()
        stream.seek(end)
        stream.write(line)
        stream.fd.sync()
        lines++
        end += line.size
        writeAnchor()
    }

    /** Keep the lines up to the first that does not verify, add a note, and return how many were kept; a copy stays beside. */
    @Synchronized
    fun repair(note: (B) -> Map<String, Any?>): Int = locked {
        forget()
        val content = readFrom(0)
        if (content.isNotEmpty()) writeWhole(generateSequence(1) { it + 1 }.map { File("$file.damaged-$it") }.first { !it.exists() }, content)
        takeLines(content, null)
        val kept = lines
        stream.setLength(end)
        if (kept == 0) append(opening())
        append(note(book))
        kept
    }

    private fun forget() {
        book = newBook()
        lines = 0
        end = 0
        mac = ByteArray(MAC_BYTES)
    }

    private fun <T> locked(work: () -> T): T = try {
        file.absoluteFile.parentFile?.mkdirs()
        RandomAccessFile(file, "rw").use { opened ->
            opened.channel.lock().use {
                onlyForOwner(file)
                stream = opened
                work()
            }
        }
    } catch (error: ClosedByInterruptException) {
        throw cannotBeKept("the thread was interrupted")
    } catch (error: FileLockInterruptionException) {
        throw cannotBeKept("the thread was interrupted")
    } catch (error: IOException) {
        throw cannotBeKept(error.reason)
    } catch (error: OverlappingFileLockException) {
        throw LogException("${file.name} is held by another part of this app: nothing may be sent without it")
    }

    private fun cannotBeKept(why: String) = LogException("${file.name} cannot be kept ($why): nothing may be sent without it")

    /** Take in what is new and compare it with the anchor. */
    private fun catchUp() {
        val anchored = readAnchor()
        val size = stream.length()
        val content = readNew()
        if (anchored == null && !isNew(content)) throw LogException("${anchor.name} is missing: put it back, or $REPAIR")
        takeLines(content, anchored)
        if (anchored != null && lines < anchored.lines) {
            val what = if (end == size) "holds $lines entries and had ${anchored.lines}, an older copy" else "is damaged at entry ${lines + 1}"
            throw LogException("${file.name} $what: put the newest back, or $REPAIR")
        }
        if (end < size) stream.setLength(end) // what a crash left unfinished: nothing was sent for it
        if (lines == 0) append(opening()) else if (anchored == null) writeAnchor()
    }

    /** What follows the lines that are taken in; everything, if these are no longer there. */
    private fun readNew(): ByteArray {
        if (lines == 0) return readFrom(0)
        val last = "${mac.toHexString()}\n".encodeToByteArray()
        val content = readFrom(end - last.size)
        if (content.size >= last.size && content.copyOf(last.size).contentEquals(last)) return content.copyOfRange(last.size, content.size)
        forget()
        return readFrom(0)
    }

    private fun readFrom(start: Long): ByteArray {
        if (start >= stream.length()) return ByteArray(0)
        stream.seek(start)
        return ByteArray((stream.length() - start).toInt()).also(stream::readFully)
    }

    /** Whether this can be a file before its first anchor: at most one line, the opening. */
    private fun isNew(content: ByteArray) = lines == 0 && content.size < FIRST_LINE && content.count { it == NEWLINE } <= 1

    /** Take in lines as long as they verify. */
    private fun takeLines(content: ByteArray, anchored: Anchor?) {
        var start = 0
        while (true) {
            val stop = (start until content.size).firstOrNull { content[it] == NEWLINE } ?: return
            val line = content.copyOfRange(start, stop)
            val text = line.copyOf(maxOf(line.size - DIGITS - 1, 0))
            val found = seal("line", mac, text)
            if (!line.contentEquals(text + " ${found.toHexString()}".encodeToByteArray())) return
            if (anchored != null && lines + 1 == anchored.lines && found.toHexString() != anchored.mac) return
            take(book, parseJson(text).asObject("the entry"))
            start = stop + 1
            lines++
            end += line.size + 1
            mac = found
        }
    }

    private class Anchor(val lines: Int, val mac: String)

    private fun readAnchor(): Anchor? {
        if (!anchor.exists()) return null
        val content = anchor.readBytes().decodeToString().trim()
        val text = content.substringBeforeLast(' ')
        try {
            val values = parseJson(text.encodeToByteArray()).asObject("the anchor")
            if (values.text("key") != fingerprint) throw LogException("${file.name} belongs to another key: $REPAIR")
            val sealed = seal("anchor", text.encodeToByteArray()).toHexString().encodeToByteArray()
            if (MessageDigest.isEqual(sealed, content.substringAfterLast(' ').encodeToByteArray())) {
                return Anchor(values.int("lines"), values.text("mac"))
            }
        } catch (error: LogException) {
            throw error
        } catch (error: SfumatoException) {
            // as below
        }
        throw LogException("${anchor.name} is damaged: put a whole copy back, or $REPAIR")
    }

    private fun writeAnchor() {
        val text = writeJson(linkedMapOf("key" to fingerprint, "lines" to lines, "mac" to mac.toHexString()))
        writeWhole(anchor, "$text ${seal("anchor", text.encodeToByteArray()).toHexString()}\n".encodeToByteArray())
    }

    private fun seal(label: String, vararg parts: ByteArray): ByteArray = hmac(key, parts.fold(label.encodeToByteArray(), ByteArray::plus))

    private companion object {
        const val NEWLINE = '\n'.code.toByte()

        /** The file is the old one or the new one at any time, after a power loss too. */
        fun writeWhole(file: File, content: ByteArray) {
            val scratch = File(file.path + ".new")
            FileOutputStream(scratch).use {
                onlyForOwner(scratch)
                it.write(content)
                it.fd.sync()
            }
            if (!scratch.renameTo(file)) throw IOException("${scratch.name} cannot be renamed")
        }

        /** Mode 0600. */
        fun onlyForOwner(file: File) {
            file.setReadable(false, false)
            file.setWritable(false, false)
            file.setExecutable(false, false)
            file.setReadable(true, true)
            file.setWritable(true, true)
        }
    }
}
