package dev.sfumato.demo

import dev.sfumato.core.Accelerator
import dev.sfumato.core.Answer
import dev.sfumato.core.AnswerSource
import dev.sfumato.core.Bundle
import dev.sfumato.core.Contract
import dev.sfumato.core.Delegation
import dev.sfumato.core.DeviceKey
import dev.sfumato.core.DeviceKeys
import dev.sfumato.core.Encoding
import dev.sfumato.core.FakeKeys
import dev.sfumato.core.FakeNetwork
import dev.sfumato.core.Familiar
import dev.sfumato.core.KEY
import dev.sfumato.core.Ledger
import dev.sfumato.core.LocalNetwork
import dev.sfumato.core.NetworkFactory
import dev.sfumato.core.Perturbed
import dev.sfumato.core.Picture
import dev.sfumato.core.Reply
import dev.sfumato.core.ServerException
import dev.sfumato.core.SCORES
import dev.sfumato.core.ScoresNetwork
import dev.sfumato.core.SfumatoException
import dev.sfumato.core.Upload
import dev.sfumato.core.YuvFrame
import dev.sfumato.core.YuvPlane
import dev.sfumato.core.answerBundle
import dev.sfumato.core.madeUp
import dev.sfumato.core.points
import dev.sfumato.core.smallBundle
import dev.sfumato.core.wordPng
import java.io.File
import java.nio.ByteBuffer
import java.util.concurrent.CopyOnWriteArrayList
import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executors
import java.util.concurrent.atomic.AtomicBoolean
import kotlin.concurrent.thread
import kotlinx.coroutines.CoroutineExceptionHandler
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.cancel
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.job
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withContext
import kotlinx.coroutines.withTimeout
import org.junit.After
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class DemoViewModelTest {
    @get:Rule
    val folder = TemporaryFolder()

    private val networks = FakeNetworks()
    private val settings = FakeSettings()
    private val server = FakeServer()
    private val history = FakeHistory()
    private val photos = FakePhotos()
    private val connected = CopyOnWriteArrayList<String>()
    private var whileConnecting: () -> Unit = {}
    private var clock: () -> Long = System::currentTimeMillis
    private val gate = Gate()
    private val held = CountDownLatch(1)
    private val crashes = CopyOnWriteArrayList<Throwable>()
    private val scope = CoroutineScope(SupervisorJob() + Dispatchers.Default + CoroutineExceptionHandler { _, error -> crashes += error })
    private val thread = Executors.newSingleThreadExecutor().asCoroutineDispatcher()

    private var keys: DeviceKeys = FakeKeys()
    private var openLedger: () -> Ledger = ::newLedger

    private fun model(openBundle: () -> Bundle = { smallBundle() }): DemoViewModel {
        val parts = DemoParts(openBundle, networks, keys, { openLedger() }, photos, settings, history, ::source, { 7 }, screen = 100)
        return DemoViewModel(parts, scope, thread, Dispatchers.IO)
    }

    private val DemoUiState.Ready.shownPhoto get() = (photo as PhotoState.Shown).photo

    private fun source(contract: Contract, to: ServerSettings): AnswerSource {
        val address = to.server
        whileConnecting()
        return server.also { connected += address }
    }

    private fun newLedger() = Ledger(File(folder.root, "ledger"), KEY, clock)

    /** Waits for a state; fails with the last one after ten seconds. */
    private fun DemoViewModel.await(wanted: (DemoUiState.Ready) -> Boolean): DemoUiState.Ready = runBlocking {
        try {
            withTimeout(10_000) { state.first { it is DemoUiState.Ready && wanted(it) } as DemoUiState.Ready }
        } catch (error: kotlinx.coroutines.TimeoutCancellationException) {
            throw AssertionError("the state stayed ${state.value}")
        }
    }

    private fun DemoViewModel.shown(after: Perturbed? = null): Perturbed =
        (await { (it.photo as? PhotoState.Shown)?.let { now -> now.perturbed !== after } ?: false }.photo as PhotoState.Shown).perturbed

    @After
    fun stop() {
        gate.open() // a test that failed may have left the network's thread waiting
        held.countDown()
        // What the phone would call a crash: nothing may be thrown after the last assertion either.
        runBlocking { withContext(thread) {} }
        scope.cancel()
        thread.close()
        assertEquals(emptyList<Throwable>(), crashes)
    }

    @Test
    fun aGoodExportRunsOnTheProcessorFirst() {
        val state = model().await { it.runtime is RuntimeState.Running }
        assertEquals(RuntimeChoice(Accelerator.CPU, 1), state.choice)
        val running = state.runtime as RuntimeState.Running
        assertEquals(listOf(Delegation(42, 42, 1), 0), listOf(running.delegation, running.difference))
        assertEquals(PhotoState.None, state.photo)
    }

    @Test
    fun aPhotoUnlikeTheOrdinaryOnesIsShownAsSuch() {
        val far = Familiar(means = List(43) { 9.0 }, spreads = List(43) { 1.0 }, limit = 3.0)
        for ((limits, expected) in listOf(null to null, far to true, far.copy(limit = 99.0) to false)) {
            val model = model { smallBundle(familiar = limits) }
            model.await { it.runtime is RuntimeState.Running }
            model.openPhoto("photo")
            assertEquals(expected, model.shown().unlike)
        }
    }

    @Test
    fun anExportThatCannotBeUsedIsSaidInWords() {
        val model = model { throw SfumatoException("contract.json is missing") }
        val state = runBlocking { withTimeout(10_000) { model.state.first { it != DemoUiState.Loading } } }
        assertEquals(DemoUiState.Broken("contract.json is missing"), state)
        model.openPhoto("photo")
        model.choose(Accelerator.GPU, 2)
        model.resetKey()
        model.send()
        assertEquals(state, model.state.value)
    }

    @Test
    fun aRefusedDelegateLeavesNothingRunningInItsPlace() {
        val model = model()
        model.openPhoto("photo")
        model.shown()
        networks.refuse = "no driver"
        model.choose(Accelerator.NNAPI, 2)
        val refused = model.await { it.runtime is RuntimeState.Refused && it.photo is PhotoState.Failed }
        assertEquals(RuntimeState.Refused("no driver"), refused.runtime)
        assertTrue(networks.opened.single().closed)
        networks.refuse = null
        model.choose(Accelerator.GPU, 2)
        model.shown()
        assertEquals(listOf(Accelerator.CPU to 1, Accelerator.GPU to 2), networks.asked)
    }

    @Test
    fun aDelegateThatSilentlyTakesNothingIsRefused() {
        val model = model()
        model.await { it.runtime is RuntimeState.Running }
        val silent = FakeNetwork(delegation = null)
        networks.answering = { silent }
        model.choose(Accelerator.NNAPI, 1)
        val reason = "NNAPI takes no node of this model (TensorFlow Lite's log has no line of TfLiteNnapiDelegate), and nothing runs in its place"
        assertEquals(RuntimeState.Refused(reason), model.await { it.runtime is RuntimeState.Refused }.runtime)
        assertEquals(listOf(0, true), listOf(silent.invoked, silent.closed))
        networks.answering = { FakeNetwork(delegation = null, fullyAccelerated = true) } // nothing else was allowed to run it
        model.choose(Accelerator.NPU, 1)
        assertTrue((model.await { it.runtime is RuntimeState.Running }.runtime as RuntimeState.Running).fullyAccelerated)
        networks.answering = { silent }
        model.choose(Accelerator.CPU, 1) // the CPU may be silent
        assertEquals(null, (model.await { it.runtime is RuntimeState.Running }.runtime as RuntimeState.Running).delegation)
    }

    @Test
    fun theSamePhotoIsPerturbedAnewOnAnotherDelegateAndGivesTheSameUpload() {
        val model = model()
        model.openPhoto("photo")
        val first = model.shown()
        model.choose(Accelerator.GPU, 4)
        val second = model.shown(after = first)
        assertArrayEquals(first.upload.content, second.upload.content)
        assertEquals(1, photos.reads)
    }

    @Test
    fun aPhotoThatCannotBeReadIsSaidInWords() {
        val model = model()
        photos.problem = "the photo is damaged"
        model.openPhoto("photo")
        assertEquals(PhotoState.Failed("the photo is damaged"), model.await { it.photo is PhotoState.Failed }.photo)
    }

    @Test
    fun onlyATapSends() {
        val model = model()
        model.openPhoto("photo")
        val perturbed = model.shown()
        assertTrue(server.sent.isEmpty())
        model.send()
        val received = model.await { it.answer is AnswerState.Received }.answer as AnswerState.Received
        assertEquals("yes", received.reply.answers.getValue("smiling").label)
        assertArrayEquals(perturbed.upload.content, server.sent.single().content)
    }

    @Test
    fun whatIsSentIsCountedFirstAndRefusedOverTheLimit() {
        val model = model()
        server.problem = "the server refuses (429)"
        model.openPhoto("photo")
        val first = model.shown()
        model.await { it.account.text == "Today 0 photos, at most 0.0 bits to 127.0.0.1; no limit is set." }
        model.send()
        model.await { it.answer is AnswerState.Failed && it.account.text.startsWith("Today 1 photo, at most ") }
        model.setLimit("0,5")
        assertEquals("0.5", model.await { it.account.text.endsWith("the limit is 0.5.") }.account.limit)
        server.problem = null
        model.send()
        model.await { it.answer is AnswerState.Received } // the same upload costs nothing more
        model.resetKey()
        model.shown(after = first)
        model.send()
        val refused = model.await { it.answer is AnswerState.Failed }
        assertTrue("nothing was sent" in (refused.answer as AnswerState.Failed).reason)
        assertEquals(1, server.sent.size)
        model.setLimit("much")
        model.await { it.account.text == "a limit is a number of bits, not 'much'" && !it.account.broken }
    }

    @Test
    fun anAccountThatIsDamagedSendsNothingUntilItIsRepaired() {
        val model = model()
        model.openPhoto("photo")
        model.shown()
        model.send()
        model.await { it.answer is AnswerState.Received }
        File(folder.root, "ledger").writeBytes(ByteArray(0))
        model.send()
        val failed = model.await { it.answer is AnswerState.Failed && it.account.broken }
        assertTrue("older copy" in failed.account.text)
        assertEquals(1, server.sent.size)
        model.repairAccount()
        model.await { !it.account.broken && "Entries were lost" in it.account.text }
        model.send()
        model.await { it.answer is AnswerState.Received }
        assertEquals(2, server.sent.size)
    }

    @Test
    fun aRefusalOfTheServerIsSaidInWords() {
        val model = model()
        server.problem = "the server refuses (429)"
        model.openPhoto("photo")
        model.shown()
        model.send()
        assertEquals(AnswerState.Failed("the server refuses (429)"), model.await { it.answer is AnswerState.Failed }.answer)
    }

    @Test
    fun anotherPhotoForgetsTheQuestionThatIsStillOpen() {
        val model = model()
        server.held = CountDownLatch(1)
        model.openPhoto("photo")
        model.shown()
        model.send()
        model.await { it.answer == AnswerState.Asking }
        model.openPhoto("another")
        model.await { it.answer == AnswerState.None && it.photo is PhotoState.Shown && photos.reads == 2 }
        server.held?.countDown()
        Thread.sleep(50)
        assertEquals(AnswerState.None, (model.state.value as DemoUiState.Ready).answer)
    }

    /** The interruption meets the write: the clock is asked while the ledger is held, the address just before. */
    @Test
    fun aQuestionForgottenWhileItIsCountedIsCountedAndNotSent() {
        for (during in listOf("the entry", "the lock")) {
            val gate = Gate()
            File(folder.root, "ledger").delete()
            File(folder.root, "ledger.anchor").delete()
            clock = { System.currentTimeMillis().also { if (during == "the entry") gate.pass() } }
            settings.onRead = { if (during == "the lock") gate.pass() }
            val model = model()
            model.openPhoto("photo")
            model.shown()
            model.await { it.account.text.startsWith("Today 0 photos") }
            gate.close()
            model.send()
            gate.reached.await()
            model.openPhoto("another")
            gate.open()
            val text = model.await { it.account.text.isNotEmpty() && !it.account.text.startsWith("Today 0 photos") }.account.text
            assertTrue("$during: $text", text.startsWith("Today 1 photo, at most "))
            val last = model.await { it.photo is PhotoState.Shown }
            runBlocking { scope.coroutineContext.job.children.forEach { it.join() } }
            assertEquals(during, AnswerState.None, model.await { true }.answer)
            assertEquals(last.account, model.await { true }.account)
            assertTrue(server.sent.isEmpty())
        }
    }

    @Test
    fun aQuestionForgottenWithItsServerDoesNotBringTheServerBack() {
        val gate = Gate()
        whileConnecting = gate::pass
        val model = model()
        model.openPhoto("photo")
        model.shown()
        gate.close()
        model.send()
        gate.reached.await()
        val setting = thread { model.setServer("https://other.example", "") } // waits for the question, or goes first
        while (setting.state != Thread.State.BLOCKED && setting.isAlive) Thread.yield()
        gate.open()
        setting.join()
        runBlocking { scope.coroutineContext.job.children.forEach { it.join() } }
        model.send()
        model.await { it.answer is AnswerState.Received }
        assertEquals("https://other.example", connected.last())
    }

    @Test
    fun framesAreShownAndNeverSentByThemselves() {
        val model = model()
        model.await { it.runtime is RuntimeState.Running }
        model.startLive()
        for (name in listOf("ramp", "grain")) model.frames.execute { model.onFrame { madeUp(name, 24, 32) } }
        val frame = madeUp("grain", 24, 32).fit(16, 16)
        model.await { (it.photo as? PhotoState.Shown)?.perturbed?.input?.rgb.contentEquals(frame.rgb) }
        assertTrue(server.sent.isEmpty())
        model.send()
        model.await { it.answer is AnswerState.Received }
        assertFalse(model.await { true }.live)
        assertEquals(1, server.sent.size)
        var asked = false
        model.frames.execute { model.onFrame { madeUp("ramp", 24, 32).also { asked = true } } }
        runBlocking { withContext(thread) {} }
        assertFalse("the camera was stopped", asked)
    }

    /** Planes of a sensor that lies on its side: never a picture of the frame's size. */
    @Test
    fun aFrameOfTheCameraNeedsNoPicture() {
        val model = model()
        model.await { it.runtime is RuntimeState.Running }
        model.startLive()
        fun plane(bytes: Int, stride: Int) = YuvPlane(ByteBuffer.wrap(ByteArray(bytes) { (it * 5).toByte() }), stride, 1)
        val frame = YuvFrame(48, 64, plane(48 * 64, 64), plane(24 * 32, 32), plane(24 * 32, 32), rotation = 90)
        model.frames.execute { model.onFrame { frame } }
        val shown = model.await { it.photo is PhotoState.Shown }.photo as PhotoState.Shown
        assertEquals(Shape(64, 48), shown.source)
        assertArrayEquals(frame.fit(16, 16).rgb, shown.perturbed.input.rgb)
        assertArrayEquals(frame.fit(48, 48).rgb, shown.photo.rgb)
    }

    /** A model whose camera has shown a frame, and whose next is in the network. */
    private fun perturbing(openBundle: () -> Bundle = { smallBundle() }): Pair<DemoViewModel, Perturbed> {
        networks.answering = { FakeNetwork(onInvoke = gate::pass) }
        val model = model(openBundle)
        model.await { it.runtime is RuntimeState.Running }
        model.startLive()
        model.frames.execute { model.onFrame { madeUp("ramp", 24, 32) } }
        val first = model.shown()
        gate.close()
        model.frames.execute { model.onFrame { madeUp("grain", 24, 32) } }
        gate.reached.await()
        return model to first
    }

    @Test
    fun whatIsShownBesideTheAnswerIsWhatWasSent() {
        val (model, first) = perturbing()
        model.send()
        gate.open()
        model.await { it.answer is AnswerState.Received }
        runBlocking { withContext(thread) {} }
        assertTrue(first === model.shown())
        assertArrayEquals(first.upload.content, server.sent.single().content)
        model.choose(Accelerator.GPU, 2) // draws the picture that is shown, and no longer answers
        assertArrayEquals(first.input.rgb, model.shown(after = first).input.rgb)
        assertEquals(AnswerState.None, model.await { true }.answer)
    }

    @Test
    fun aFrameOfBeforeAChangeIsNotSentAfterIt() {
        val changes = listOf<DemoViewModel.() -> Unit>({ resetKey() }, { choose(Accelerator.GPU, 2) }, { chooseStrength(64) })
        val (model, first) = perturbing { smallBundle(points = points(128, 64)) }
        val reached = CountDownLatch(1)
        model.frames.execute {
            reached.countDown()
            held.await()
        }
        for (change in changes) model.change()
        gate.open()
        reached.await() // the frame is through, no change is
        assertEquals(PhotoState.Working, model.await { true }.photo)
        model.send()
        held.countDown()
        assertArrayEquals(first.input.rgb, model.shown(after = first).input.rgb)
        assertTrue(server.sent.isEmpty())
    }

    @Test
    fun aPhotoThatAnotherHasOvertakenIsNotShown() {
        val model = model()
        model.await { it.runtime is RuntimeState.Running }
        model.frames.execute { held.await() }
        val reading = CountDownLatch(1)
        photos.onRead = {
            if (it == "second") {
                reading.countDown()
                gate.pass()
            }
        }
        gate.close()
        model.openPhoto("first")
        model.openPhoto("second")
        held.countDown()
        reading.await()
        assertEquals(PhotoState.Working, model.await { true }.photo)
        gate.open()
        model.shown()
        assertEquals(2, photos.reads)
    }

    @Test
    fun whateverAReaderThrowsIsSaidInOneSentence() {
        val model = model()
        model.await { it.runtime is RuntimeState.Running }
        val errors = listOf(OutOfMemoryError("/storage/photo.jpg\nand more"), IllegalStateException("content://photos/7"), NoClassDefFoundError())
        for (thrown in errors) {
            val sentence = PhotoState.Failed("the photo cannot be used: choose another one (${thrown.javaClass.simpleName})")
            photos.thrown = thrown
            model.openPhoto("photo")
            assertEquals(sentence, model.await { it.photo is PhotoState.Failed }.photo)
            photos.thrown = null
            model.openPhoto("photo")
            model.shown()
            model.startLive()
            model.frames.execute { model.onFrame { throw thrown } }
            assertEquals(sentence, model.await { it.photo is PhotoState.Failed }.photo)
            model.frames.execute { model.onFrame { madeUp("grain", 24, 32) } }
            model.shown()
        }
    }

    @Test
    fun nothingElseThatThrowsIsACrash() {
        val broken = model { throw OutOfMemoryError() }
        val state = runBlocking { withTimeout(10_000) { broken.state.first { it != DemoUiState.Loading } } }
        assertEquals(DemoUiState.Broken("it cannot be read (OutOfMemoryError)"), state)
        openLedger = { throw IllegalStateException("/data/ledger") }
        val model = model()
        model.await { it.account.text == "the account cannot be kept, and nothing may be sent without it (IllegalStateException)" }
        model.setLimit("1")
        model.openPhoto("photo")
        model.shown()
        model.send()
        assertEquals(
            AnswerState.Failed("the upload cannot be sent: try again (IllegalStateException)"), model.await { it.answer is AnswerState.Failed }.answer,
        )
        openLedger = ::newLedger // the next try works
        model.send()
        model.await { it.answer is AnswerState.Received }
        networks.answering = { throw OutOfMemoryError() }
        model.choose(Accelerator.GPU, 1)
        val refused = RuntimeState.Refused("the network cannot be loaded (OutOfMemoryError)")
        assertEquals(refused, model.await { it.runtime is RuntimeState.Refused }.runtime)
    }

    @Test
    fun aKeyThatCannotBeMadeIsSaidInWordsAndTheNextTryWorks() {
        keys = object : DeviceKeys {
            var problem: String? = "the secret device.key cannot be stored"

            override fun get(): DeviceKey {
                problem?.let { throw SfumatoException(it) }
                return KEY
            }

            override fun reset() {
                if (problem == null) throw SfumatoException("the secret device.key cannot be deleted")
                problem = null
            }
        }
        networks.answering = { FakeNetwork() }
        val model = model()
        model.openPhoto("photo")
        assertEquals(PhotoState.Failed("the secret device.key cannot be stored"), model.await { it.photo is PhotoState.Failed }.photo)
        model.resetKey() // mends it
        model.shown()
        model.resetKey()
        assertEquals(PhotoState.Failed("the secret device.key cannot be deleted"), model.await { it.photo is PhotoState.Failed }.photo)
    }

    @Test
    fun withoutAServerTheAppSaysSoAndSendsNothing() {
        settings.server = ""
        settings.clearText = emptySet()
        val sentence = "no server is set: give its address under Server, such as https://photos.example"
        val model = model()
        model.await { it.server == "" && it.account.text == sentence }
        model.openPhoto("photo")
        model.shown()
        model.send()
        assertEquals(AnswerState.Failed(sentence), model.await { it.answer is AnswerState.Failed }.answer)
        model.setServer("http://127.0.0.1:8080", "")
        model.await { (it.answer as? AnswerState.Failed)?.reason?.endsWith("this build of the app sends nothing in clear text: use https") == true }
        assertEquals("", settings.server)
        settings.server = "http://127.0.0.1:8080" // left by a debug build
        model.send()
        model.await { (it.answer as? AnswerState.Failed)?.reason?.endsWith("this build of the app sends nothing in clear text: use https") == true }
        assertEquals(emptyList<String>(), connected)
        model.setServer("https://photos.example", "")
        model.await { it.account.text == "Today 0 photos, at most 0.0 bits to photos.example; no limit is set." && it.photo is PhotoState.Shown }
        model.send()
        model.await { it.answer is AnswerState.Received }
        assertEquals(listOf("https://photos.example"), connected)
    }

    @Test
    fun aResetKeyChangesTheUploadOfTheSamePhoto() {
        val model = model()
        model.openPhoto("photo")
        val first = model.shown()
        model.resetKey()
        assertFalse(first.upload.content.contentEquals(model.shown(after = first).upload.content))
    }

    @Test
    fun aCodeWordTravelsAsItsImageWhereThatIsAskedFor() {
        networks.answering = { ScoresNetwork(SCORES) }
        val model = model { answerBundle(null) }
        model.openPhoto("photo")
        val word = model.shown()
        assertEquals(false, model.await { true }.asImage)
        model.sendAsImage(true)
        val image = model.shown(after = word)
        assertEquals(listOf(Encoding.WORD, Encoding.PNG), listOf(word, image).map { it.upload.encoding })
        assertArrayEquals(wordPng(3, 6), image.upload.content)
        model.choose(Accelerator.GPU, 2) // the choice outlives another delegate
        assertEquals(Encoding.PNG, model.shown(after = image).upload.encoding)
        model.send()
        model.await { it.answer is AnswerState.Received }
        assertArrayEquals(image.upload.content, server.sent.single().content)
    }

    @Test
    fun aPictureBundleHasNoSuchChoice() {
        val model = model()
        assertEquals(null, model.await { true }.asImage)
        model.openPhoto("photo")
        val shown = model.shown()
        model.sendAsImage(true)
        assertEquals(null, model.await { true }.asImage)
        assertTrue(shown === model.shown())
    }

    @Test
    fun anotherPointDrawsAnotherUpload() {
        val model = model { smallBundle(points = points(128, 64)) }
        assertEquals(listOf(128, 64), model.await { it.points.isNotEmpty() }.points.map { it.strength })
        model.openPhoto("photo")
        val full = model.shown()
        model.chooseStrength(128) // nothing new is drawn
        assertTrue(full === model.shown())
        model.chooseStrength(64)
        val half = model.shown(after = full)
        assertTrue(half.rateBits!! < full.rateBits!!)
        model.choose(Accelerator.GPU, 2) // the choice outlives another delegate
        assertArrayEquals(half.upload.content, model.shown(after = half).upload.content)
        model.send()
        assertEquals(64, model.await { it.answer is AnswerState.Received }.strength)
        assertArrayEquals(half.upload.content, server.sent.single().content)
    }

    @Test
    fun anExportWithoutPointsOffersNone() {
        assertEquals(emptyList<Any>(), model().await { it.runtime is RuntimeState.Running }.points)
    }

    @Test
    fun whatTheOldKeyMadeIsNotSentAfterItsReset() {
        val model = model()
        model.openPhoto("photo")
        val first = model.shown()
        val held = CountDownLatch(1)
        model.frames.execute { held.await() }
        model.resetKey()
        model.send()
        held.countDown()
        model.shown(after = first)
        assertTrue(server.sent.isEmpty())
    }

    @Test
    fun nothingIsSentBeforeTheUserAgreesAndThenItIsStored() {
        settings.agreed = null
        val model = model()
        model.openPhoto("photo")
        val shown = model.shown()
        model.send()
        assertEquals("http://127.0.0.1:8080", model.await { it.consent.isNotEmpty() }.consent)
        model.decline()
        assertEquals("", model.await { true }.consent)
        model.agree() // nothing was asked
        model.send()
        model.openPhoto("another") // the question was about the upload of before
        assertEquals("", model.await { it.photo is PhotoState.Shown }.consent)
        model.send()
        model.await { it.consent.isNotEmpty() }
        assertEquals(listOf(null, 0), listOf(settings.agreed, server.sent.size))
        assertTrue(model.await { it.account.text.isNotEmpty() }.account.text.startsWith("Today 0 photos"))
        model.agree()
        val state = model.await { it.answer is AnswerState.Received }
        assertEquals(listOf("", "http://127.0.0.1:8080", 1), listOf(state.consent, settings.agreed, server.sent.size))
        assertArrayEquals(shown.upload.content, server.sent.single().content)
        model.send()
        model.await { server.sent.size == 2 && it.answer is AnswerState.Received } // asked once
    }

    @Test
    fun everyServerGetsADrawOfItsOwn() {
        val model = model()
        model.openPhoto("photo")
        val first = model.shown()
        model.setServer("https://photos.example", "")
        val second = model.shown(after = first)
        assertFalse(first.upload.content.contentEquals(second.upload.content))
        assertFalse(first.draw.contentEquals(second.draw))
        model.setServer("http://127.0.0.1:8080", "")
        val again = model.shown(after = second)
        assertArrayEquals(first.upload.content, again.upload.content) // nothing new, and it costs nothing more
        assertArrayEquals(first.draw, again.draw)
    }

    /** The address changes elsewhere, as in another window of the app, and what is shown is still of the server before. */
    @Test
    fun aDrawOfOneServerIsNotSentToAnother() {
        val model = model()
        model.openPhoto("photo")
        model.shown()
        settings.server = "https://other.example"
        model.send()
        val failed = model.await { it.answer is AnswerState.Failed }.answer as AnswerState.Failed
        assertEquals("nothing was sent: the upload was drawn for another server; try again", failed.reason)
        assertTrue(server.sent.isEmpty())
    }

    @Test
    fun consentIsToOneServer() {
        settings.agreed = "http://127.0.0.1:8080"
        val model = model()
        model.openPhoto("photo")
        model.shown()
        model.setServer("https://photos.example", "")
        model.shown()
        model.send()
        assertEquals("https://photos.example", model.await { it.consent.isNotEmpty() }.consent)
        model.setServer("https://other.example", "")
        assertEquals("", model.await { it.server == "https://other.example" }.consent)
        model.agree()
        assertEquals(listOf("http://127.0.0.1:8080", 0), listOf(settings.agreed, server.sent.size))
    }

    @Test
    fun consentCanBeWithdrawnAndThenTheNextSendAsksAgain() {
        settings.agreed = null
        val model = model()
        model.openPhoto("photo")
        model.shown()
        assertFalse(model.await { true }.agreed)
        model.send()
        model.await { it.consent.isNotEmpty() }
        model.agree()
        model.await { it.agreed && it.answer is AnswerState.Received }
        model.withdraw()
        assertEquals(listOf(AnswerState.None, false), model.await { true }.run { listOf(answer, agreed) })
        assertEquals(null, settings.agreed)
        model.send()
        assertEquals("http://127.0.0.1:8080", model.await { it.consent.isNotEmpty() }.consent)
        model.withdraw() // the question goes too
        assertEquals("", model.await { true }.consent)
        assertEquals(1, server.sent.size)
    }

    @Test
    fun whatWaitsIsNotSentOnceTheConsentIsWithdrawn() {
        val model = model()
        model.openPhoto("photo")
        model.shown()
        gate.close()
        settings.onRead = gate::pass
        model.send()
        gate.reached.await()
        settings.onRead = {}
        model.withdraw()
        gate.open()
        runBlocking { scope.coroutineContext.job.children.forEach { it.join() } }
        assertEquals(0, server.sent.size)
        assertEquals(AnswerState.None, model.await { true }.answer)
    }

    @Test
    fun whetherTheServerMayHaveUploadsIsKnownFromTheStartAndOfEachServer() {
        settings.agreed = "http://127.0.0.1:8080"
        val model = model()
        assertTrue(model.await { true }.agreed)
        model.setServer("https://photos.example", "")
        assertFalse(model.await { it.server == "https://photos.example" }.agreed)
    }

    @Test
    fun thePhotoIsShownAsFineAsTheScreenAndCroppedAsTheNetworkSeesIt() {
        for ((height, width) in listOf(40 to 50, 50 to 41, 300 to 200, 9 to 9, 64 to 2000)) {
            photos.size = height to width
            val model = model()
            model.openPhoto("photo")
            val perturbed = model.shown()
            val input = perturbed.input
            val photo = model.await { it.photo is PhotoState.Shown }.shownPhoto
            val times = maxOf(1, minOf(100, height, width) / input.height) // the screen has 100 pixels, the input is a square
            assertEquals(listOf(times * input.height, times * input.width), listOf(photo.height, photo.width))
            val whole = madeUp("ramp", height, width)
            assertArrayEquals(whole.fit(photo.height, photo.width).rgb, photo.rgb)
            // The same pixels of the photo: what the slow crop keeps is what both are made of.
            val side = minOf(height, width)
            val cropped = crop(whole, (height - side) / 2, (width - side) / 2, side)
            assertArrayEquals(cropped.fit(input.height, input.width).rgb, input.rgb)
            assertArrayEquals(cropped.fit(photo.height, photo.width).rgb, photo.rgb)
        }
    }

    private fun crop(whole: Picture, top: Int, left: Int, side: Int): Picture {
        fun at(y: Int, x: Int) = 3 * ((top + y) * whole.width + left + x)
        return Picture(side, side, ByteArray(3 * side * side) { whole.rgb[at(it / 3 / side, it / 3 % side) + it % 3] })
    }

    @Test
    fun whatLeavesThePhoneIsSaidWithItsBits() {
        val model = model()
        assertEquals(null, model.await { true }.leaving)
        model.openPhoto("photo")
        val shown = model.shown()
        assertEquals(Leaving(shown.upload.content.size, false, upwards(shown.rateBits!!), null), model.await { true }.leaving)
        val dialled = model { smallBundle(points = points(128, 64)) }
        dialled.openPhoto("photo")
        dialled.shown()
        val means = dialled.await { true }.points.associate { it.strength to it.meanBits }
        assertEquals(upwards(means.getValue(128)), dialled.await { true }.leaving?.meanBits)
        dialled.chooseStrength(64)
        val half = dialled.await { it.strength == 64 && it.leaving != null }.leaving
        assertEquals(upwards(means.getValue(64)), half?.meanBits)
    }

    @Test
    fun aCodeWordTellsNoMoreThanOneOfItsWordsWhicheverWayItTravels() {
        networks.answering = { ScoresNetwork(SCORES) }
        val model = model { answerBundle(null) }
        model.openPhoto("photo")
        val word = model.shown()
        val first = model.await { true }.leaving
        model.sendAsImage(true)
        val image = model.shown(after = word)
        val second = model.await { true }.leaving
        for ((leaving, shown) in listOf(first to word, second to image)) {
            assertEquals(listOf(true, shown.upload.content.size), listOf(leaving?.word, leaving?.bytes))
            assertEquals(2.6, leaving?.mostBits!!, 1e-9) // one of six
            assertTrue(leaving.meanBits!! <= leaving.mostBits)
        }
        assertEquals(1, first?.bytes)
    }

    @Test
    fun atMostIsTrueToTheDecimalThatIsShown() {
        val shown = listOf(0.0, 1.0, 13.0, 13.00000001, 13.01, 13.05, 0.3, 2.584962500721156).map(::upwards)
        assertEquals(listOf(0.0, 1.0, 13.0, 13.0, 13.1, 13.1, 0.3, 2.6), shown)
    }

    @Test
    fun theOtherCameraIsUsedUntilItIsSwitchedBack() {
        val model = model()
        assertTrue(model.await { true }.front)
        model.startLive()
        model.switchCamera()
        assertEquals(listOf(true, false), model.await { true }.run { listOf(live, front) })
        model.frames.execute { model.onFrame { madeUp("grain", 24, 32) } }
        assertEquals(Shape(24, 32), (model.await { it.photo is PhotoState.Shown }.photo as PhotoState.Shown).source)
        model.stopLive()
        model.startLive()
        assertFalse(model.await { it.live }.front) // the choice outlives a stop
        model.switchCamera()
        assertTrue(model.await { true }.front)
    }

    @Test
    fun anAddressThatIsNotTheOneAgreedToGetsNothing() {
        settings.agreed = "http://127.0.0.1:8080"
        val model = model()
        model.openPhoto("photo")
        model.shown()
        settings.server = "https://photos.example" // behind the screen's back
        model.send()
        val failed = model.await { it.answer is AnswerState.Failed }.answer as AnswerState.Failed
        assertEquals("nothing was sent: uploads to photos.example need your consent first", failed.reason)
        assertTrue(server.sent.isEmpty())
    }

    @Test
    fun whatWasSentIsListedAndCanBeDeleted() {
        history.kept = listOf(Sent(1, "before.example", null, "smiling: no"))
        val model = model()
        assertEquals(history.kept, model.await { it.history.sent.isNotEmpty() }.history.sent)
        model.openPhoto("photo")
        val bits = model.shown().rateBits
        model.send()
        val listed = model.await { it.answer is AnswerState.Received }.history.sent
        assertEquals(Sent(7, "127.0.0.1", bits, "smiling: yes"), listed.first())
        assertEquals(listed, history.kept)
        server.problem = "no"
        model.send()
        model.await { it.answer is AnswerState.Failed }
        assertEquals(listed, model.await { true }.history.sent) // what got no answer is in the account alone
        model.deleteHistory()
        model.await { it.history == HistoryState() }
        assertEquals(emptyList<Sent>(), history.kept)
    }

    @Test
    fun aListThatCannotBeKeptTakesNoAnswerAway() {
        history.problem = "make room on this phone"
        val model = model()
        model.openPhoto("photo")
        model.shown()
        model.send()
        val state = model.await { it.answer is AnswerState.Received }
        assertEquals(HistoryState(problem = "make room on this phone"), state.history)
    }

    @Test
    fun aTokenStaysWithItsServer() {
        val model = model()
        model.await { true }
        model.setServer("https://photos.example/", "secret")
        assertEquals("https://photos.example", model.await { it.hasToken }.server)
        model.setServer("https://photos.example", "")
        assertEquals("secret", settings.token)
        model.setServer("https://other.example", "")
        assertEquals(null, settings.token)
        model.setServer("https://other.example", "two words")
        assertEquals(null, settings.token)
        model.setServer("http://photos.example", "secret")
        assertTrue(model.await { it.answer is AnswerState.Failed }.server == "https://other.example")
        assertEquals(null, settings.token)
    }
}

private class FakeNetworks : NetworkFactory {
    var refuse: String? = null
    var answering: (() -> LocalNetwork)? = null
    val opened = mutableListOf<FakeNetwork>()
    val asked = mutableListOf<Pair<Accelerator, Int>>()

    override fun open(model: ByteArray, accelerator: Accelerator, threads: Int): LocalNetwork {
        refuse?.let { throw SfumatoException(it) }
        asked += accelerator to threads
        return answering?.invoke() ?: FakeNetwork().also(opened::add)
    }
}

private class FakePhotos : PhotoReader {
    var problem: String? = null
    var thrown: Throwable? = null
    var onRead: (String) -> Unit = {}

    @Volatile
    var reads = 0

    @Volatile
    var size = 40 to 50

    override fun read(reference: String, height: Int, width: Int): Picture {
        onRead(reference)
        thrown?.let { throw it }
        return problem?.let { throw SfumatoException(it) } ?: madeUp("ramp", size.first, size.second).also { reads++ }
    }
}

private class FakeSettings : ServerSettings {
    @Volatile
    var onRead: () -> Unit = {}

    override var server = "http://127.0.0.1:8080"
        get() = field.also { onRead() }
    override var token: String? = null
    var clearText = setOf("127.0.0.1", "localhost")

    override fun allowsClearText(host: String) = host in clearText

    /** The only server that was agreed to; [ANY] stands for all. */
    @Volatile
    var agreed: String? = ANY

    override fun agreedTo(server: String) = agreed == ANY || agreed == server

    override fun agreeTo(server: String) {
        agreed = server
    }

    override fun withdraw() {
        agreed = null
    }

    private companion object {
        const val ANY = "*"
    }
}

private class FakeHistory : History {
    var problem: String? = null

    @Volatile
    var kept = emptyList<Sent>()

    override fun read() = kept.also { refuse() }

    override fun add(sent: Sent): List<Sent> {
        refuse()
        return (listOf(sent) + kept).also { kept = it }
    }

    override fun delete() {
        kept = emptyList()
    }

    private fun refuse() {
        problem?.let { throw SfumatoException(it) }
    }
}

private class FakeServer : AnswerSource {
    val sent = mutableListOf<Upload>()
    var problem: String? = null
    var held: CountDownLatch? = null

    override fun send(upload: Upload): Reply {
        held?.await()
        problem?.let { throw ServerException(it) }
        sent += upload
        return Reply(mapOf("smiling" to Answer("yes", mapOf("no" to 0.1, "yes" to 0.9))), "r1", upload.content.size, 1, 2.0)
    }
}

/** Once closed, holds the next one who passes until it is opened; without a wait that an interruption would end. */
private class Gate {
    val reached = CountDownLatch(1)
    private val closed = AtomicBoolean()

    @Volatile
    private var opened = false

    fun close() = closed.set(true)

    fun open() {
        opened = true
    }

    fun pass() {
        if (!closed.getAndSet(false)) return
        reached.countDown()
        while (!opened) Thread.yield()
    }
}
