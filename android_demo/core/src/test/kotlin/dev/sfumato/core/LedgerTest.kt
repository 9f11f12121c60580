package dev.sfumato.core

import java.io.File
import kotlin.concurrent.thread
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

private const val DAY = 86_400_000L
private const val HOST = "photos.example"

class LedgerTest {
    @get:Rule
    val folder = TemporaryFolder()

    /** 2026-11-28, 12:00 UTC. */
    private var now = 20_785 * DAY + DAY / 2
    private val file get() = File(folder.root, "ledger")
    private val anchor get() = File(folder.root, "ledger.anchor")

    private fun ledger(key: DeviceKey = KEY) = Ledger(file, key) { now }

    private fun draw(number: Int) = ByteArray(16) { number.toByte() }

    @Test
    fun theAccountOutlivesTheApp() {
        ledger().setLimit(HOST, 100.0, null)
        repeat(12) { ledger().spend(HOST, draw(it), 1.0875) }
        assertEquals("Today 12 photos, at most 13.1 bits to photos.example; the limit is 100.", ledger().account(HOST).sentence)
        assertEquals(listOf("ledger", "ledger.anchor"), folder.root.list()?.sorted())
    }

    @Test
    fun theSamePhotoAgainCostsNothing() {
        val ledger = ledger()
        repeat(3) { ledger.spend(HOST, draw(1), 2.5) }
        assertEquals(Tally(3, 1, 2_500_000, 0), ledger.account(HOST).total)
        assertEquals(2_500_000, ledger.spend("other.example", draw(1), 2.5).total.microbits)
    }

    @Test
    fun overTheLimitNothingIsCounted() {
        val ledger = ledger()
        ledger.setLimit(Ledger.ANY, 3.0, 5.0)
        ledger.spend(HOST, draw(1), 3.0)
        val refusal = assertThrows(LimitException::class.java) { ledger.spend(HOST, draw(2), 0.05) }
        assertEquals(
            "photos.example: this photo's 0.1 bits would make 3.1 today and the limit is 3: nothing was sent; " +
                "wait for the next day (UTC) or raise the limit",
            refusal.message,
        )
        assertEquals(1, ledger.account(HOST).total.uploads)
        now += DAY
        ledger.spend(HOST, draw(2), 2.0)
        assertThrows(LimitException::class.java) { ledger.spend(HOST, draw(3), null) }
        assertThrows(SfumatoException::class.java) { ledger.spend(HOST, draw(3), Double.NaN) }
        assertThrows(SfumatoException::class.java) { ledger.spend("Two Words", draw(3), 1.0) }
        assertEquals(2, ledger.account(HOST).total.uploads)
    }

    @Test
    fun theClockBackAndForth() {
        ledger().setLimit(HOST, 2.0, null)
        ledger().spend(HOST, draw(1), 2.0)
        for (days in listOf(-3, 30, 2, 29)) {
            now = (20_785 + days) * DAY
            if (days == 30) ledger().spend(HOST, draw(2), 2.0) else assertThrows(LimitException::class.java) { ledger().spend(HOST, draw(3), 1.0) }
        }
        assertTrue(ledger().account(HOST).ahead)
        ledger().acceptClock()
        assertEquals("2026-12-27", ledger().account(HOST).day)
        assertThrows(LimitException::class.java) { ledger().spend(HOST, draw(3), 1.0) }
        now += DAY
        assertFalse(ledger().spend(HOST, draw(3), 1.0).ahead)
    }

    @Test
    fun anOlderCopyIsNoticed() {
        val ledger = ledger()
        ledger.spend(HOST, draw(1), 1.0)
        val old = file.readBytes()
        ledger.spend(HOST, draw(2), 1.0)
        file.writeBytes(old)
        for (keeper in listOf(ledger, ledger())) {
            val error = assertThrows(LogException::class.java) { keeper.spend(HOST, draw(3), 1.0) }
            assertTrue(error.message, "holds 2 entries and had 3, an older copy" in error.message.orEmpty())
        }
        assertTrue(old.contentEquals(file.readBytes()))
        assertEquals(2, ledger.repair())
        assertTrue(ledger().spend(HOST, draw(3), 1.0).sentence.endsWith("Entries were lost on 2026-11-28: the sums may be too low."))
    }

    @Test
    fun filesThatAreGoneDamagedOrOfAnotherKeyAreNoticed() {
        ledger().spend(HOST, draw(1), 1.0)
        ledger().spend(HOST, draw(2), 1.0)
        val (whole, sealed) = file.readBytes() to anchor.readBytes()
        fun refused(what: String, key: DeviceKey = KEY) {
            val error = assertThrows(LogException::class.java) { ledger(key).account(HOST) }
            assertTrue(error.message, what in error.message.orEmpty())
            file.writeBytes(whole)
            anchor.writeBytes(sealed)
        }
        for (at in whole.indices step 7) {
            file.writeBytes(whole.copyOf().also { it[at] = (it[at].toInt() xor 4).toByte() })
            refused(if (whole.size - at <= 1) "older copy" else "damaged at entry")
        }
        anchor.writeBytes(sealed.copyOf().also { it[sealed.size - 3] = 'x'.code.toByte() })
        refused("ledger.anchor is damaged")
        anchor.delete()
        refused("ledger.anchor is missing")
        file.delete()
        refused("older copy")
        refused("belongs to another key", DeviceKey(ByteArray(32)))
        assertEquals(2, ledger().account(HOST).total.draws)
    }

    @Test
    fun whatACrashLeftUnfinishedIsCutOff() {
        ledger().spend(HOST, draw(1), 1.0)
        file.appendBytes("{\"kind\":\"upload\",\"da".encodeToByteArray() + ByteArray(300))
        assertEquals(2, ledger().spend(HOST, draw(2), 1.0).total.draws)
        assertEquals(2, ledger().account(HOST).total.draws)
        val first = file.readBytes().takeWhile { it != '\n'.code.toByte() }.toByteArray()
        anchor.delete()
        file.writeBytes(first.copyOf(20))
        assertEquals(1, ledger().spend(HOST, draw(1), 1.0).total.draws)
    }

    @Test
    fun threadsShareOneAccount() {
        val ledger = ledger()
        ledger.setLimit(HOST, 50.0, null)
        var refused = 0
        val threads = List(4) { part ->
            thread {
                for (number in 0 until 20) {
                    try {
                        ledger.spend(HOST, byteArrayOf(part.toByte(), number.toByte()), 1.0)
                    } catch (refusal: LimitException) {
                        synchronized(this) { refused++ }
                    }
                }
            }
        }
        threads.forEach(Thread::join)
        assertEquals(30, refused)
        assertEquals(50_000_000, ledger().account(HOST).total.microbits)
    }

    @Test
    fun anInterruptedThreadIsRefusedInWordsAndLosesNothing() {
        val ledger = ledger()
        ledger.spend(HOST, draw(1), 1.0)
        Thread.currentThread().interrupt()
        val error = assertThrows(LogException::class.java) { ledger.spend(HOST, draw(2), 1.0) }
        assertTrue(Thread.interrupted())
        assertEquals("ledger cannot be kept (the thread was interrupted): nothing may be sent without it", error.message)
        assertEquals(2, ledger.spend(HOST, draw(2), 1.0).total.draws)

        val interrupting = Ledger(file, KEY) { now.also { Thread.currentThread().interrupt() } } // while the file is held
        assertEquals(3, interrupting.spend(HOST, draw(3), 1.0).total.draws)
        assertTrue(Thread.interrupted())
        assertEquals(3, ledger().account(HOST).total.uploads)
    }

    @Test
    fun aServiceIsTheHostOfItsAddress() {
        assertEquals(listOf(HOST, "::1"), listOf("https://photos.example:8443/v1", "http://[::1]:80").map(Ledger::serviceOf))
    }
}
