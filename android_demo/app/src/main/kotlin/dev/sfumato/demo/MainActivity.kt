/** The screen: photo or camera, what becomes of it, what the server answers. */
package dev.sfumato.demo

import android.Manifest
import android.content.Context
import android.content.pm.PackageManager
import android.content.res.Resources
import android.graphics.Bitmap
import android.os.Bundle
import android.view.View
import android.widget.Button
import android.widget.CompoundButton
import android.widget.EditText
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.PickVisualMediaRequest
import androidx.activity.result.contract.ActivityResultContracts
import androidx.camera.view.PreviewView
import androidx.core.view.ViewCompat
import androidx.core.view.WindowInsetsCompat
import androidx.lifecycle.Lifecycle
import androidx.lifecycle.ViewModel
import androidx.lifecycle.ViewModelProvider
import androidx.lifecycle.lifecycleScope
import androidx.lifecycle.repeatOnLifecycle
import com.google.android.material.button.MaterialButtonToggleGroup
import com.google.android.material.dialog.MaterialAlertDialogBuilder
import com.google.android.material.slider.Slider
import com.google.android.material.textfield.MaterialAutoCompleteTextView
import com.google.android.material.textfield.TextInputLayout
import dev.sfumato.core.Accelerator
import dev.sfumato.core.Bundle as Export
import dev.sfumato.core.CodeWord
import dev.sfumato.core.Ledger
import dev.sfumato.core.Picture
import dev.sfumato.core.StrengthPoint
import java.io.File
import java.io.IOException
import java.text.DateFormat
import java.util.Date
import java.util.concurrent.Executors
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.launch

class MainActivity : ComponentActivity() {
    private lateinit var model: DemoViewModel
    private lateinit var camera: LiveCamera
    private lateinit var views: Views
    private var shown: PhotoState.Shown? = null
    private var running = false
    private var offered: List<StrengthPoint> = emptyList()
    private val showAccelerator = OnChange<Accelerator> { views.accelerator.setText(it.name, false) }
    private val showThreads = OnChange<Int> { views.threads.setText(describeThreads(it), false) }
    private val showStrength = OnChange<Int> { views.strength.setText(describeStrength(it), false) }
    private val showLimit = OnChange<String> { views.limit.setText(it) }
    private val showServer = OnChange<String> { views.server.setText(it) }

    // What TalkBack reads out by itself is written on a change alone, and not with every frame.
    private val showStatus = OnChange<Int> { views.status.setText(it) }
    private val showAccount = OnChange<String> { views.account.text = it }
    private val showRuntime = OnChange<RuntimeState> { views.runtime.text = describe(it) }
    private val showAnswer = OnChange<AnswerState> { views.answer.text = describe(it) }
    private val showConsent = OnChange<String> { views.consentText.text = if (it.isEmpty()) "" else getString(R.string.consent, it) }
    private val showUnlike = OnChange<Boolean> { views.unlike.visibility = visibleIf(it) }
    private val showHistory = OnChange<HistoryState> { views.history.text = describe(it) }
    private val showCompared = OnChange<String> { views.compare.contentDescription = it }

    /** While the camera runs it says nothing but that: every frame may be unlike the ordinary ones, or not. */
    private val speak = OnChange<Boolean> { aloud ->
        val mode = if (aloud) View.ACCESSIBILITY_LIVE_REGION_POLITE else View.ACCESSIBILITY_LIVE_REGION_NONE
        for (view in with(views) { listOf(account, runtime, answer, consentText, unlike) }) view.accessibilityLiveRegion = mode
    }

    private val pickPhoto = registerForActivityResult(ActivityResultContracts.PickVisualMedia()) { uri ->
        if (uri != null) model.openPhoto(uri.toString())
    }
    private val askForCamera = registerForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
        if (granted) model.startLive() else model.onCameraFailed(getString(R.string.camera_denied))
    }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.main)
        model = ViewModelProvider(this, DemoViewModelFactory(this))[DemoViewModel::class.java]
        views = Views(this)
        val failed = { reason: String -> model.onCameraFailed(getString(R.string.camera_failed, reason)) }
        camera = LiveCamera(this, this, views.preview, model.frames, model::onFrame, failed)
        keepClear()
        listen()
        lifecycleScope.launch {
            repeatOnLifecycle(Lifecycle.State.STARTED) { model.state.collect(::render) }
        }
    }

    override fun onDestroy() {
        camera.close()
        super.onDestroy()
    }

    /** Since Android 15 every app draws behind the system's bars: what is read or tapped stays clear. Before, the insets are 0. */
    private fun keepClear() {
        ViewCompat.setOnApplyWindowInsetsListener(views.screen) { _, insets ->
            val types = WindowInsetsCompat.Type.systemBars() or WindowInsetsCompat.Type.displayCutout() or WindowInsetsCompat.Type.ime()
            val clear = insets.getInsets(types)
            views.screen.setPadding(clear.left, clear.top, clear.right, 0)
            views.scroller.setPadding(0, 0, 0, clear.bottom)
            WindowInsetsCompat.CONSUMED
        }
    }

    private fun listen() = with(views) {
        choose.setOnClickListener {
            val images = PickVisualMediaRequest.Builder().setMediaType(ActivityResultContracts.PickVisualMedia.ImageOnly).build()
            pickPhoto.launch(images)
        }
        live.setOnClickListener { toggleLive() }
        switchCamera.setOnClickListener { model.switchCamera() }
        send.setOnClickListener { model.send() }
        agree.setOnClickListener { model.agree() }
        decline.setOnClickListener { model.decline() }
        withdraw.setOnClickListener { model.withdraw() }
        share.setOnClickListener { shareUpload() }
        deleteHistory.setOnClickListener { model.deleteHistory() }
        apply.setOnClickListener {
            model.setServer(server.text.toString(), token.text.toString())
            token.text.clear()
        }
        asImage.setOnCheckedChangeListener { _, checked -> model.sendAsImage(checked) }
        setLimit.setOnClickListener { model.setLimit(limit.text.toString()) }
        repair.setOnClickListener { model.repairAccount() }
        reset.setOnClickListener { confirmReset() }
        wipe.addOnChangeListener(Slider.OnChangeListener { _, value, _ -> compare.share = value / 100 })
        rightPicture.addOnButtonCheckedListener { _, _, checked -> if (checked) showPictures() }
        strength.setOnItemClickListener { _, _, place, _ -> offered.getOrNull(place)?.let { model.chooseStrength(it.strength) } }
        accelerator.setOnItemClickListener { _, _, place, _ -> chosen()?.let { model.choose(ACCELERATORS[place], it.threads) } }
        threads.setOnItemClickListener { _, _, place, _ -> chosen()?.let { model.choose(it.accelerator, THREADS[place]) } }
    }

    private fun toggleLive() {
        when {
            (model.state.value as? DemoUiState.Ready)?.live == true -> model.stopLive()
            checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED -> model.startLive()
            else -> askForCamera.launch(Manifest.permission.CAMERA)
        }
    }

    private fun chosen(): RuntimeChoice? = (model.state.value as? DemoUiState.Ready)?.choice

    /** What is shown on the right as the upload, which is what would be sent or was; never the photo. */
    private fun shareUpload() {
        val drawn = shown?.perturbed?.drawn ?: return
        try {
            startActivity(shareSheet(this, drawn))
        } catch (error: IOException) {
            views.photo.text = getString(R.string.share_failed, error.reason)
        } catch (error: RuntimeException) { // the system has no share sheet
            views.photo.text = getString(R.string.share_failed, error.reason)
        }
    }

    private fun confirmReset() {
        MaterialAlertDialogBuilder(this)
            .setTitle(R.string.reset_key)
            .setMessage(R.string.reset_key_explained)
            .setPositiveButton(R.string.reset) { _, _ -> model.resetKey() }
            .setNegativeButton(android.R.string.cancel, null)
            .show()
    }

    private fun render(state: DemoUiState) {
        views.content.visibility = visibleIf(state is DemoUiState.Ready)
        when (state) {
            DemoUiState.Loading -> showStatus(R.string.loading)
            is DemoUiState.Broken -> views.status.text = getString(R.string.broken, state.reason)
            is DemoUiState.Ready -> render(state)
        }
    }

    private fun render(state: DemoUiState.Ready) = with(views) {
        speak(!state.live)
        showStatus(if (state.live) R.string.live_explained else R.string.explained)
        live.setText(if (state.live) R.string.stop_camera else R.string.camera)
        showPoints(state)
        showCamera(state)
        showAccelerator(state.choice.accelerator)
        showThreads(state.choice.threads)
        showRuntime(state.runtime)
        photo.text = describe(state.photo)
        val strange = (state.photo as? PhotoState.Shown)?.perturbed?.unlike == true
        showUnlike(strange)
        send.setText(if (strange) R.string.send_anyway else R.string.send)
        send.isEnabled = state.photo is PhotoState.Shown && state.answer !is AnswerState.Asking
        share.isEnabled = state.photo is PhotoState.Shown && !state.live
        leaves.visibility = visibleIf(state.leaving != null)
        leaves.text = state.leaving?.let(::describe)
        withdraw.visibility = visibleIf(state.agreed)
        consent.visibility = visibleIf(state.consent.isNotEmpty())
        showConsent(state.consent)
        showHistory(state.history)
        deleteHistory.visibility = visibleIf(state.history != HistoryState())
        showAccount(state.account.text)
        showLimit(state.account.limit)
        repair.visibility = visibleIf(state.account.broken)
        showAnswer(state.answer)
        asImage.visibility = visibleIf(state.asImage != null)
        asImage.isChecked = state.asImage == true
        showServer(state.server)
        tokenField.hint = getString(if (state.hasToken) R.string.token_stored else R.string.token)
        val now = state.photo as? PhotoState.Shown
        if (now !== shown || running != state.live) {
            shown = now
            running = state.live
            showPictures()
        }
    }

    /** While the camera runs its picture is beside the upload, which would hide it under the line. */
    private fun showCamera(state: DemoUiState.Ready) = with(views) {
        if (state.live) camera.start(state.front) else camera.stop()
        cameraPicture.visibility = visibleIf(state.live)
        wipe.visibility = visibleIf(!state.live)
        switchCamera.visibility = visibleIf(state.live && camera.hasBoth)
        val now = state.photo as? PhotoState.Shown
        if (state.live && now != null) kept.show(now.source, Shape(now.perturbed.input.height, now.perturbed.input.width))
    }

    /** The strengths to choose from, each with the bits and the accuracy that were measured there. */
    private fun showPoints(state: DemoUiState.Ready) = with(views) {
        strengthField.visibility = visibleIf(state.points.isNotEmpty())
        if (offered != state.points) {
            offered = state.points
            strength.setSimpleItems(offered.map(::describe).toTypedArray())
        }
        showStrength(state.strength)
    }

    private fun describeStrength(strength: Int) = offered.find { it.strength == strength }?.let(::describe).orEmpty()

    private fun describeThreads(count: Int) = resources.getQuantityString(R.plurals.threads, count, count)

    private fun describe(point: StrengthPoint): String {
        val right = point.accuracy.entries.joinToString { (name, share) -> getString(R.string.right, name, 100 * share) }
        return getString(R.string.point, point.meanBits, right, point.strength)
    }

    private fun showPictures() = with(views) {
        val perturbed = shown?.perturbed
        val map = perturbed?.noiseMap
        sides.visibility = visibleIf(perturbed?.word == null)
        val noise = map != null && rightPicture.checkedButtonId == R.id.right_noise
        val right = if (map != null && noise) noiseBitmap(perturbed.drawn, map) else perturbed?.drawn?.toBitmap()
        compare.show(if (running) null else shown?.photo?.toBitmap(), right)
        val name = if (noise) R.string.noise_map else if (perturbed?.word == null) R.string.upload else R.string.code_word
        val described = if (running) R.string.live_described else R.string.compare_described
        showCompared(getString(if (perturbed == null) R.string.no_photo else described, getString(name)))
    }

    /** The [map] of [drawn]'s noise: one value for each of its samples. */
    private fun noiseBitmap(drawn: Picture, map: ByteArray): Bitmap {
        val grey = ByteArray(map.size * 3) { map[it / 3] }
        return Picture(drawn.height, drawn.width, grey).toBitmap()
    }

    private fun describe(runtime: RuntimeState): String = when (runtime) {
        RuntimeState.Opening -> getString(R.string.opening)
        is RuntimeState.Refused -> getString(R.string.refused, runtime.reason)
        is RuntimeState.Running -> {
            val taken = runtime.delegation?.let {
                getString(R.string.taken, it.delegated, it.nodes?.toString() ?: "?", it.partitions)
            } ?: getString(if (runtime.fullyAccelerated) R.string.taken_whole else R.string.taken_unknown)
            val same = if (runtime.difference == 0) getString(R.string.same) else getString(R.string.differs, runtime.difference)
            getString(R.string.running, taken, runtime.initMillis, same)
        }
    }

    private fun describe(photo: PhotoState): String = when (photo) {
        PhotoState.None -> getString(R.string.no_photo)
        PhotoState.Working -> getString(R.string.working)
        is PhotoState.Failed -> photo.reason
        is PhotoState.Shown -> with(photo.perturbed) {
            val rate = rateBits?.let { getString(R.string.rate, upwards(it)) } ?: getString(R.string.rate_unknown)
            val figures = getString(R.string.figures, upload.content.size, rate, times.pre, times.network, times.sampler, times.encode)
            word?.let { "${describe(it, upload.content.size)}\n$figures" } ?: figures
        }
    }

    /** What leaves the phone and how much it can tell, in one sentence. */
    private fun describe(leaving: Leaving): String {
        val (bytes, word, most, mean) = leaving
        val told = when {
            most == null -> getString(R.string.told_unbounded)
            mean == null -> getString(R.string.told, most)
            else -> getString(R.string.told_and_mean, most, mean)
        }
        return resources.getQuantityString(if (word) R.plurals.leaves_word else R.plurals.leaves_upload, bytes, bytes, told)
    }

    /** What a code word says. */
    private fun describe(word: CodeWord, bytes: Int): String {
        val says = word.labels.entries.joinToString { (name, label) -> "$name: $label" }
        return resources.getQuantityString(if (word.randomised) R.plurals.drawn_word else R.plurals.own_word, bytes, word.number, bytes, says)
    }

    private fun describe(answer: AnswerState): String = when (answer) {
        AnswerState.None -> ""
        AnswerState.Asking -> getString(R.string.asking)
        is AnswerState.Failed -> answer.reason
        is AnswerState.Received -> answer.reply.answers.entries.joinToString("\n") { (name, prediction) ->
            prediction.cells?.let { getString(R.string.answer_mask, name, 100 * (1 - prediction.probabilities.values.first())) }
                ?: prediction.value?.let { getString(R.string.answer_number, name, it) }
                ?: getString(R.string.answer, name, prediction.label, 100 * prediction.probabilities.getValue(prediction.label))
        } + "\n" + getString(R.string.answer_cost, answer.reply.sentBytes, answer.reply.millis)
    }

    private fun describe(history: HistoryState): String {
        val times = DateFormat.getDateTimeInstance(DateFormat.SHORT, DateFormat.SHORT)
        val lines = history.sent.map {
            val bits = it.bits?.let { most -> getString(R.string.history_bits, upwards(most)) } ?: getString(R.string.history_unbounded)
            getString(R.string.history_entry, times.format(Date(it.millis)), it.service, bits, it.answer)
        }
        return history.problem.ifEmpty { lines.joinToString("\n").ifEmpty { getString(R.string.history_empty) } }
    }

    /** The views of main.xml that are spoken to. */
    private class Views(activity: MainActivity) {
        val status: TextView = activity.findViewById(R.id.status)
        val screen: View = activity.findViewById(R.id.screen)
        val scroller: View = activity.findViewById(R.id.scroller)
        val content: View = activity.findViewById(R.id.content)
        val choose: Button = activity.findViewById(R.id.choose)
        val live: Button = activity.findViewById(R.id.live)
        val switchCamera: Button = activity.findViewById(R.id.switch_camera)
        val cameraPicture: View = activity.findViewById(R.id.camera_picture)
        val preview: PreviewView = activity.findViewById(R.id.preview)
        val kept: KeptView = activity.findViewById(R.id.kept)
        val strengthField: View = activity.findViewById(R.id.strength_field)
        val strength: MaterialAutoCompleteTextView = activity.findViewById(R.id.strength)
        val compare: CompareView = activity.findViewById(R.id.compare)
        val wipe: Slider = activity.findViewById(R.id.wipe)
        val sides: View = activity.findViewById(R.id.sides)
        val rightPicture: MaterialButtonToggleGroup = activity.findViewById(R.id.right_picture)
        val photo: TextView = activity.findViewById(R.id.photo)
        val unlike: TextView = activity.findViewById(R.id.unlike)
        val accelerator: MaterialAutoCompleteTextView = activity.findViewById(R.id.accelerator)
        val threads: MaterialAutoCompleteTextView = activity.findViewById(R.id.threads)
        val runtime: TextView = activity.findViewById(R.id.runtime)
        val server: EditText = activity.findViewById(R.id.server)
        val tokenField: TextInputLayout = activity.findViewById(R.id.token_field)
        val token: EditText = activity.findViewById(R.id.token)
        val apply: Button = activity.findViewById(R.id.apply)
        val leaves: TextView = activity.findViewById(R.id.leaves)
        val send: Button = activity.findViewById(R.id.send)
        val withdraw: Button = activity.findViewById(R.id.withdraw)
        val consent: View = activity.findViewById(R.id.consent)
        val consentText: TextView = activity.findViewById(R.id.consent_text)
        val agree: Button = activity.findViewById(R.id.agree)
        val decline: Button = activity.findViewById(R.id.decline)
        val share: Button = activity.findViewById(R.id.share)
        val history: TextView = activity.findViewById(R.id.history)
        val deleteHistory: Button = activity.findViewById(R.id.delete_history)
        val answer: TextView = activity.findViewById(R.id.answer)
        val account: TextView = activity.findViewById(R.id.account)
        val asImage: CompoundButton = activity.findViewById(R.id.as_image)
        val limit: EditText = activity.findViewById(R.id.limit)
        val setLimit: Button = activity.findViewById(R.id.set_limit)
        val repair: Button = activity.findViewById(R.id.repair_account)
        val reset: Button = activity.findViewById(R.id.reset_key)

        init {
            preview.implementationMode = PreviewView.ImplementationMode.COMPATIBLE // a texture, which scrolls and lies under the veil
            preview.scaleType = PreviewView.ScaleType.FIT_CENTER
            accelerator.setSimpleItems(ACCELERATORS.map { it.name }.toTypedArray())
            threads.setSimpleItems(THREADS.map(activity::describeThreads).toTypedArray())
        }
    }

    private companion object {
        val THREADS = listOf(1, 2, 4, 8)
    }
}

private class DemoViewModelFactory(private val activity: ComponentActivity) : ViewModelProvider.Factory {
    override fun <T : ViewModel> create(modelClass: Class<T>): T {
        val context = activity.applicationContext
        val parts = DemoParts(
            openBundle = { Export.open { name -> context.assets.open("${Export.FOLDER}/$name").use { it.readBytes() } } },
            networks = LiteRtNetworkFactory(context, ::tfliteLog),
            keys = KeystoreDeviceKeys(SecretFile(context.noBackupFilesDir, "device.key")),
            openLedger = {
                val folder = context.noBackupFilesDir
                Ledger(File(folder, "ledger"), KeystoreDeviceKeys(SecretFile(folder, "ledger.key")).get())
            },
            photos = ContentPhotoReader(context.contentResolver),
            settings = StoredServerSettings(
                context.getSharedPreferences("server", Context.MODE_PRIVATE), SecretFile(context.noBackupFilesDir, "server.token"),
            ),
            history = StoredHistory(SecretFile(context.noBackupFilesDir, "history")),
            screen = screenSide(context.resources),
        )
        val scope = CoroutineScope(SupervisorJob() + Dispatchers.Main.immediate)
        val network = Executors.newSingleThreadExecutor().asCoroutineDispatcher()
        return checkNotNull(modelClass.cast(DemoViewModel(parts, scope, network, Dispatchers.IO)))
    }
}

/** Pixels of the largest square that fits the screen both ways. */
internal fun screenSide(resources: Resources): Int = resources.displayMetrics.run { minOf(widthPixels, heightPixels) }

private fun visibleIf(wanted: Boolean) = if (wanted) View.VISIBLE else View.GONE
