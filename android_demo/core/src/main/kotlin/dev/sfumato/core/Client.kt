/**
 * The phone's side of the service (docs/serve.md): check that the server has the same contract, send, retry.
 *
 *     val client = Client("https://photos.example", bundle.contract, token = token)
 *     val reply = client.send(perturbed.upload)
 *     reply.answers.getValue("smiling").label
 *
 * Only the upload travels, made from pixels alone. A refusal that stays one is raised at once; 429, 502, 503, 504
 * and network faults are tried again after a pause that doubles, with jitter, and is never shorter than the server's Retry-After.
 * It is always the same upload: a retry gives the server no new information.
 */
package dev.sfumato.core

import java.io.ByteArrayOutputStream
import java.io.IOException
import java.io.InputStream
import java.net.HttpURLConnection
import java.net.URI
import java.net.URISyntaxException
import java.net.URL
import kotlin.random.Random

/** The server refused, with the HTTP [status] and the [kind] of its problem, or its response is no answer: then neither is there. */
public class ServerException(message: String, public val status: Int? = null, public val kind: String = "") : SfumatoException(message)

/** Time-outs and retries. */
public data class ClientConfig(
    /** Tries of one request, the first included. */
    val attempts: Int = 5,
    /** Longest time that a connection may take. */
    val connectMillis: Int = 5_000,
    /** Longest silence while an answer is awaited. */
    val answerMillis: Int = 15_000,
    /** Upper end of the first pause; it doubles with every try. */
    val firstPauseMillis: Long = 250,
    /** Longest pause; a server that asks for a longer one is given up. */
    val longestPauseMillis: Long = 10_000,
)

/**
 * The answer for one kept attribute: the likeliest class as [label], and the [probabilities] of all. Of a number the answer is
 * [value]. Of a mask it is [cells], the class number of every cell, row by row, and [probabilities] are shares of the cells.
 */
public data class Answer(
    val label: String,
    val probabilities: Map<String, Double>,
    val value: Double? = null,
    val cells: List<Int>? = null,
)

/** The server's answer, checked against the contract. */
public data class Reply(
    /** By kept attribute. */
    val answers: Map<String, Answer>,
    /** The server's name for this request, as in its log. */
    val requestId: String,
    /** Size of the upload. */
    val sentBytes: Int,
    /** Tries that it took. */
    val attempts: Int,
    /** From the first try to the answer. */
    val millis: Double,
)

/** What answers uploads. */
public fun interface AnswerSource {
    /** Ask about an upload; blocks, and ends early when its thread is interrupted. */
    public fun send(upload: Upload): Reply
}

/**
 * Sends uploads to one server. Safe to use from several threads.
 *
 * The address of the server is https, or http to this device alone; the token is what the server's operator gave out, null where it
 * asks for none. [send] throws a [ServerException].
 */
public class Client(
    server: String,
    private val contract: Contract,
    private val token: String? = null,
    private val config: ClientConfig = ClientConfig(),
    private val sleep: (Long) -> Unit = Thread::sleep,
    private val random: Random = Random.Default,
) : AnswerSource {
    private val base = checkedUrl(server)

    init {
        token?.let(::checkToken)
    }

    @Volatile
    private var checked = false

    override fun send(upload: Upload): Reply {
        checkContract()
        val start = System.nanoTime()
        val (body, attempts) = ask("/v1/predict", upload)
        return readReply(body, upload.content.size, attempts, (System.nanoTime() - start) / 1e6)
    }

    /** Ask once whether the server answers for the contract that lies here. */
    private fun checkContract() {
        if (checked) return
        val (content, _) = ask("/v1/contract", null)
        if (sha256(content) != contract.sha256) {
            throw ServerException(
                "the server answers for another export than this app carries: nothing was sent; build the app with the server's export",
                kind = "other-contract",
            )
        }
        checked = true
    }

    private fun ask(path: String, upload: Upload?): Pair<ByteArray, Int> {
        var attempt = 1
        while (true) {
            when (val outcome = once(path, upload)) {
                is Outcome.Done -> return outcome.body to attempt
                is Outcome.Refused -> throw outcome.error
                is Outcome.Busy -> {
                    if (attempt == config.attempts) throw outcome.error
                    sleep(outcome.afterMillis + jitter(attempt))
                    attempt++
                }
            }
        }
    }

    /** Full jitter below a doubling limit. */
    private fun jitter(attempt: Int): Long {
        val limit = minOf(config.firstPauseMillis shl (attempt - 1).coerceAtMost(20), config.longestPauseMillis)
        return random.nextLong(limit + 1)
    }

    private fun once(path: String, upload: Upload?): Outcome {
        val connection = URL(base + path).openConnection() as HttpURLConnection
        return try {
            connection.prepare(upload)
            val status = connection.responseCode
            if (status == HttpURLConnection.HTTP_OK) {
                Outcome.Done(connection.inputStream.use(::readLimited))
            } else {
                refusal(status, connection)
            }
        } catch (error: IOException) {
            if (Thread.interrupted()) throw InterruptedException()
            Outcome.Busy(ServerException("$base gives no answer (${error.reason})"), 0)
        } finally {
            connection.disconnect()
        }
    }

    private fun HttpURLConnection.prepare(upload: Upload?) {
        connectTimeout = config.connectMillis
        readTimeout = config.answerMillis
        instanceFollowRedirects = false
        setRequestProperty("User-Agent", "sfumato-android")
        setRequestProperty("Accept", "application/json")
        token?.let { setRequestProperty("Authorization", "Bearer $it") }
        if (upload == null) return
        requestMethod = "POST"
        doOutput = true
        setRequestProperty("Content-Type", upload.encoding.mediaType)
        setRequestProperty("Sfumato-Contract", contract.sha256)
        setFixedLengthStreamingMode(upload.content.size)
        outputStream.use { it.write(upload.content) }
    }

    private fun refusal(status: Int, connection: HttpURLConnection): Outcome {
        val problem = Problem.parse(connection.errorStream?.use(::readLimited) ?: ByteArray(0))
        val title = problem?.title ?: connection.responseMessage.orEmpty()
        val detail = problem?.detail?.takeIf { it.isNotEmpty() }?.let { ": $it" }.orEmpty()
        val message = "the server refuses ($status): $title$detail".map { if (it.isISOControl()) ' ' else it }.joinToString("").take(500)
        val error = ServerException(message, status, problem?.kind.orEmpty())
        if (status !in AGAIN) return Outcome.Refused(error)
        val seconds = connection.getHeaderField("Retry-After")?.trim()?.toLongOrNull()?.coerceIn(0, 86_400) ?: 0
        if (seconds * 1000 > config.longestPauseMillis) {
            return Outcome.Refused(ServerException("$message; it asks for $seconds s", status, error.kind))
        }
        return Outcome.Busy(error, seconds * 1000)
    }

    private fun readReply(body: ByteArray, sent: Int, attempts: Int, millis: Double): Reply = try {
        val reply = parseJson(body).asObject("the answer")
        val answers = reply.child("answers")
        val found = contract.keep.associate { kept ->
            val answer = answers.child(kept.name)
            val shares = answer.child("probabilities")
            if (answer.text("label") !in kept.classes || shares.keys != kept.classes.toSet()) throw SfumatoException(kept.name)
            val value = kept.values?.let { answer.number("value") }
            val cells = kept.grid?.let { readMask(answer, it[0] * it[1], kept.classes.size) }
            kept.name to Answer(answer.text("label"), kept.classes.associateWith(shares::number), value, cells)
        }
        Reply(found, reply.text("request_id"), sent, attempts, millis)
    } catch (error: SfumatoException) {
        throw ServerException("the server's answer does not fit the contract")
    }

    /** The cells of a mask, which comes as runs: class, number of cells, and so on. */
    private fun readMask(answer: JsonObject, count: Int, classes: Int): List<Int> {
        val runs = answer.list("mask").map { it as? Long ?: throw SfumatoException("mask") }.chunked(2)
        val fits = runs.all { it.size == 2 && it[0] in 0 until classes && it[1] in 1..count }
        if (!fits || runs.sumOf { it[1] } != count.toLong()) throw SfumatoException("mask")
        return runs.flatMap { (named, cells) -> List(cells.toInt()) { named.toInt() } }
    }

    private sealed interface Outcome {
        class Done(val body: ByteArray) : Outcome

        class Refused(val error: ServerException) : Outcome

        class Busy(val error: ServerException, val afterMillis: Long) : Outcome
    }

    public companion object {
        private val AGAIN = setOf(429, 502, 503, 504)
        private val LOOPBACK = setOf("127.0.0.1", "localhost", "[::1]")

        /**
         * The server's address, if it is one that uploads may go to: https, or http to this device alone, where the app may speak to
         * that host in [clearText].
         */
        public fun checkedUrl(server: String, clearText: (String) -> Boolean = { true }): String {
            val parts = try {
                URI(server.trim())
            } catch (error: URISyntaxException) {
                throw refusedServer(server)
            }
            val scheme = parts.scheme?.lowercase()
            val more = listOf(parts.userInfo, parts.query, parts.fragment)
            if (scheme !in setOf("http", "https") || parts.host.isNullOrEmpty() || parts.port > LARGEST_PORT || more.any { it != null }) {
                throw refusedServer(server)
            }
            if (scheme == "http" && parts.host !in LOOPBACK) {
                throw SfumatoException("$server is not encrypted: use https, or `adb reverse` and http://127.0.0.1")
            }
            if (scheme == "http" && !clearText(parts.host)) {
                throw SfumatoException("$server is not encrypted, and this build of the app sends nothing in clear text: use https")
            }
            return server.trim().trimEnd('/')
        }

        /** Refuse what no header can carry, before a connection throws it back. */
        public fun checkToken(token: String) {
            if (token.any { it !in '!'..'~' }) throw SfumatoException("the token holds a blank or a letter that no token has: copy it again")
        }

        private fun refusedServer(server: String) =
            SfumatoException("'$server' is no server: give something like https://photos.example")

        private fun readLimited(stream: InputStream): ByteArray {
            val content = ByteArrayOutputStream()
            val part = ByteArray(8192)
            while (true) {
                val count = stream.read(part)
                if (count < 0) return content.toByteArray()
                content.write(part, 0, count)
                if (content.size() > LARGEST_REPLY) throw ServerException("the answer is larger than $LARGEST_REPLY bytes")
            }
        }

        private const val LARGEST_PORT = 65_535
        private const val LARGEST_REPLY = 1 shl 20
    }
}

/** Problem details (RFC 9457); [kind] is the end of `type`. */
private class Problem(val kind: String, val title: String, val detail: String) {
    companion object {
        /** Null for anything else, such as a proxy's own page. */
        fun parse(body: ByteArray): Problem? = try {
            val details = parseJson(body).asObject("the refusal")
            Problem(details.text("type").substringAfterLast(':'), details.text("title"), details.text("detail"))
        } catch (error: SfumatoException) {
            null
        }
    }
}
