/**
 * The ledger: an account, kept on the phone, of what was sent to whom and how many bits of the photos it can carry at most
 * (docs/ledger.md). The rules, lines and sentences are those of sfumato.runtime.ledger.
 *
 *     val ledger = Ledger(File(context.noBackupFilesDir, "ledger"), key)
 *     val account = ledger.spend("photos.example", perturbed.draw, perturbed.rateBits)     // before anything is sent
 *     account.sentence        // Today 12 photos, at most 13.1 bits to photos.example; the limit is 100.
 *
 * A draw is one (photo, contract, parameters q). The bits of different draws add up; the same draw again is the same upload and
 * costs nothing more.
 */
package dev.sfumato.core

import java.io.File
import java.net.URI
import java.text.SimpleDateFormat
import java.util.Date
import java.util.Locale
import java.util.TimeZone
import kotlin.math.ceil
import kotlin.math.roundToLong

private const val SCHEMA = "sfumato-ledger/1"
private const val MICRO = 1_000_000L
private const val DRAW_BYTES = 16
private const val MOST_BITS = 1e9
private val LABEL = "sfumato-ledger-v1".encodeToByteArray()
private val SERVICE = Regex("[a-z0-9._:-]{1,253}")

/** One more photo would pass the limit: it was not sent. */
public class LimitException(message: String) : SfumatoException(message)

/** Most bits for one service, a [day] and in [total], in millionths; null: no limit. */
public data class Limit(val day: Long? = null, val total: Long? = null)

/** A sum over uploads. */
public data class Tally(
    /** Everything that was sent, the same draw again included. */
    val uploads: Int = 0,
    /** What was drawn anew. */
    val draws: Int = 0,
    /** Whole millionths of a bit, rounded up draw by draw: never too low, and alike in every language. */
    val microbits: Long = 0,
    /** Draws without a bound. */
    val unbounded: Int = 0,
)

/** What one service was sent. */
public data class Account(
    /** Its name: [Ledger.serviceOf] its address. */
    val service: String,
    /** The account's day (UTC). */
    val day: String,
    /** Sum of that day. */
    val today: Tally,
    /** Sum of all days. */
    val total: Tally,
    /** What holds for this service. */
    val limit: Limit,
    /** The clock was put back: the account's day lies in its future. */
    val ahead: Boolean,
    /** The last day on which entries were lost: the sums may be too low. */
    val lost: String?,
) {
    /** The account in words, for the user. */
    public val sentence: String
        get() = buildString {
            val limits = listOfNotNull(
                limit.day?.let { "the limit is ${plain(it)}" },
                limit.total?.let { "the limit for all days is ${plain(it)}, ${upwards(total.microbits)} are spent" },
            )
            val beyond = if (today.unbounded > 0) " (and ${photos(today.unbounded)} without a bound)" else ""
            append("Today ${photos(today.draws)}, at most ${upwards(today.microbits)} bits$beyond to $service; ")
            append(limits.joinToString("; ").ifEmpty { "no limit is set" }).append('.')
            if (ahead) append(" The clock was put back: the day of this account stays $day until the clock is there again.")
            if (lost != null) append(" Entries were lost on $lost: the sums may be too low.")
        }
}

/** The entries and what they sum to. Days are text, which sorts as days do. */
private class Book {
    private class Service(var today: Tally = Tally(), var total: Tally = Tally(), val known: MutableSet<String> = mutableSetOf())

    private var day = ""
    private var lost: String? = null
    private val limits = mutableMapOf<String, Limit>()
    private val services = mutableMapOf<String, Service>()

    fun apply(entry: JsonObject) {
        val now = entry.text("day")
        if (now > day) {
            services.values.forEach { it.today = Tally() }
            day = now
        }
        when (val kind = entry.text("kind")) {
            "upload" -> upload(entry.text("service"), entry.text("draw"), entry.wholeOrNull("microbits"))
            "limit" -> limits[entry.text("service")] = Limit(entry.wholeOrNull("limit_day"), entry.wholeOrNull("limit_total"))
            "clock" -> day = now // earlier than it was; what was counted in between stays counted for it
            "repair" -> lost = now
            "open" -> if (entry.text("schema") != SCHEMA) throw LogException("the ledger has schema ${entry.text("schema")}: update the app")
            else -> throw LogException("the ledger has an entry $kind: update the app")
        }
    }

    private fun upload(name: String, draw: String, microbits: Long?) {
        val service = services.getOrPut(name) { Service() }
        val repeated = !service.known.add(draw)
        fun Tally.plus() = if (repeated) copy(uploads = uploads + 1) else Tally(
            uploads + 1, draws + 1, this.microbits + (microbits ?: 0), unbounded + if (microbits == null) 1 else 0,
        )
        service.today = service.today.plus()
        service.total = service.total.plus()
    }

    fun knows(service: String, draw: String) = services[service]?.known?.contains(draw) ?: false

    /** The account's day: the clock's, but never earlier than that of an entry. */
    fun today(clock: String) = maxOf(day, clock)

    fun account(name: String, clock: String): Account {
        val now = today(clock)
        val found = services[name] ?: Service()
        val limit = limits[name] ?: limits[Ledger.ANY] ?: Limit()
        return Account(name, now, if (now == day) found.today else Tally(), found.total, limit, day > clock, lost)
    }

    /** Why one more draw must not be sent; null where it may. */
    fun refusal(name: String, microbits: Long?, clock: String): String? {
        val account = account(name, clock)
        for ((most, tally, time) in listOf(Triple(account.limit.day, account.today, "today"), Triple(account.limit.total, account.total, "in all"))) {
            if (most == null) continue
            if (microbits == null) return "$name: the bits of this photo have no bound here and the limit is ${plain(most)} $time: nothing was sent"
            val sum = tally.microbits + microbits
            if (sum > most) {
                val wait = if (time == "today") "wait for the next day (UTC) or " else ""
                return "$name: this photo's ${upwards(microbits)} bits would make ${upwards(sum)} $time and the limit is ${plain(most)}: " +
                    "nothing was sent; ${wait}raise the limit"
            }
        }
        return null
    }
}

/**
 * The account in its file, which is made where there is none. The ledger's own key is derived from [key]. An app that can reset its device key gives another secret
 * here, so that the account outlives the reset. [clock] gives milliseconds since 1970.
 */
public class Ledger(file: File, key: DeviceKey, private val clock: () -> Long = System::currentTimeMillis) {
    private val log = SealedLog(file, ledgerKey(key), ::Book, Book::apply) {
        linkedMapOf("kind" to "open", "day" to today(), "schema" to SCHEMA)
    }

    /**
     * Count one upload, before it is sent, and return the account with it. [draw] is [Perturbed.draw], [bits] [Perturbed.rateBits]: at
     * most what it can carry, null where no bound can be computed. Refuses with a [LimitException], or a [LogException] if the account cannot be kept.
     */
    public fun spend(service: String, draw: ByteArray, bits: Double?): Account = log.held { book ->
        val day = book.today(today())
        val name = draw.toHexString()
        val repeated = book.knows(checked(service), name)
        val microbits = if (repeated) 0 else micro(bits) { ceil(it).toLong() }
        if (!repeated) book.refusal(service, microbits, day)?.let { throw LimitException(it) }
        log.append(linkedMapOf("kind" to "upload", "day" to day, "service" to service, "draw" to name, "microbits" to microbits))
        book.account(service, today())
    }

    /** Limit the bits of a service, or of [ANY] that has no limit of its own; null: no limit. */
    public fun setLimit(service: String, day: Double?, total: Double?): Unit = log.held { book ->
        if (service != ANY) checked(service)
        val (daily, all) = listOf(day, total).map { bits -> micro(bits, Double::roundToLong) }
        val now = book.today(today())
        log.append(linkedMapOf("kind" to "limit", "day" to now, "service" to service, "limit_day" to daily, "limit_total" to all))
    }

    /** The clock was wrong and is right now: the account goes on at its day, and what was counted in between stays in it. */
    public fun acceptClock(): Unit = log.held { log.append(linkedMapOf("kind" to "clock", "day" to today())) }

    /** What a service was sent. */
    public fun account(service: String): Account = log.held { it.account(checked(service), today()) }

    /** Keep the entries up to the first that is damaged, note that others were lost, and return how many were kept. */
    public fun repair(): Int = log.repair { linkedMapOf("kind" to "repair", "day" to it.today(today())) }

    /** java.time is not on every Android. */
    private fun today() = SimpleDateFormat("yyyy-MM-dd", Locale.ROOT).run {
        timeZone = TimeZone.getTimeZone("UTC")
        format(Date(clock()))
    }

    public companion object {
        /** Stands for every service without a limit of its own. */
        public const val ANY: String = "*"

        /** Stands for no service: what is drawn for it is sent to none. */
        public const val FILES: String = "files"

        /** The service's name in the ledger: the host of its address. */
        public fun serviceOf(server: String): String = checked(URI(server.trim()).host.orEmpty().lowercase().removeSurrounding("[", "]"))

        private fun checked(service: String): String =
            if (SERVICE.matches(service)) service else throw SfumatoException("'$service' is no service: give a host such as photos.example")

        private fun micro(bits: Double?, whole: (Double) -> Long): Long? = bits?.let {
            if (!(it >= 0 && it <= MOST_BITS)) throw SfumatoException("bits are a number from 0 to 1e9, not $it")
            whole(it * MICRO)
        }
    }
}

/** The ledger's own key, from a device key. */
internal fun ledgerKey(key: DeviceKey): ByteArray = hmac(key.bytes, LABEL)

/**
 * What a ledger remembers of a draw, 16 bytes: [contract] is the SHA-256 of contract.json, [parameters] the bytes q of all outputs
 * in the contract's order, [pixels] what the network was fed with. Without the device key it tells nothing about the photo.
 */
internal fun drawId(key: DeviceKey, contract: ByteArray, parameters: ByteArray, pixels: ByteArray): ByteArray =
    hmac(ledgerKey(key), "draw".encodeToByteArray() + contract + hash(parameters) + hash(pixels)).copyOf(DRAW_BYTES)

/** Bits as short as they are exact. */
private fun plain(microbits: Long): String =
    "${microbits / MICRO}.${(microbits % MICRO).toString().padStart(6, '0')}".trimEnd('0').trimEnd('.')

/** Bits with one decimal, rounded up, so that "at most" is true. */
private fun upwards(microbits: Long): String {
    val tenths = (microbits + MICRO / 10 - 1) / (MICRO / 10)
    return "${tenths / 10}.${tenths % 10}"
}

private fun photos(count: Int) = "$count photo" + if (count == 1) "" else "s"
